from . import (
    autoregressive as autoregressive,
    discrete as discrete,
    guidance as guidance,
    langevin as langevin,
    masked as masked,
    models as models,
    noise as noise,
    particles as particles,
    sampling as sampling,
    temperature as temperature,
    uniform as uniform,
)
from .autoregressive import Conditionals as Conditionals, Mixture as Mixture, MixtureNetwork as MixtureNetwork
from .discrete import Denoiser as Denoiser
from .guidance import combine as combine, guide as guide, log_normalizer as log_normalizer
from .langevin import annealed as annealed, annealed_mala as annealed_mala, mala as mala, unadjusted as unadjusted
from .models import (
    LogLinear as LogLinear,
    Score as Score,
    conditioned as conditioned,
    from_denoiser as from_denoiser,
    from_noise as from_noise,
    from_velocity as from_velocity,
    with_classifier as with_classifier,
)
from .noise import edm as edm, geometric as geometric, variance_preserving as variance_preserving
from .particles import JointSample as JointSample, sample_joint as sample_joint
from .sampling import euler as euler, heun as heun, sample as sample, sde as sde, trajectory as trajectory
from .temperature import gaussian_correction as gaussian_correction, scaled as scaled
