"""n-gram models of labelled texts, whose guided laws over whole texts are exact at any order, scale and temperature."""

from analysis.toys.ngrams.models import NgramModels as NgramModels
from analysis.toys.ngrams.texts import TextLaw as TextLaw
