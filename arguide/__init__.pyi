__version__: str

from . import (
    guidance as guidance,
    metropolis as metropolis,
    models as models,
    particles as particles,
    repeats as repeats,
    sampling as sampling,
    schedules as schedules,
    smc as smc,
    stopping as stopping,
    text as text,
    transforms as transforms,
)
from .smc.diagnostics import Diagnosis as Diagnosis, diagnose as diagnose, over_runs as over_runs
from .stopping import Ending as Ending
from .guidance import combine as combine, guidance_weights as guidance_weights, guide as guide, normalize as normalize
from .metropolis import Chains as Chains, sample_metropolis as sample_metropolis
from .models import Autoregressive as Autoregressive, LogLinear as LogLinear
from .particles import (
    JointSample as JointSample,
    pooled as pooled,
    sample_joint as sample_joint,
    sample_joints as sample_joints,
)
from .repeats import repeat_joint as repeat_joint
from .smc.resampling import (
    multinomial as multinomial,
    residual as residual,
    stratified as stratified,
    systematic as systematic,
)
from .sampling import Sample as Sample, sample as sample
from .transforms import (
    compose as compose,
    defensive as defensive,
    nucleus as nucleus,
    only as only,
    temperature as temperature,
    top_k as top_k,
    typical as typical,
)
from .text.combination import Condition as Condition
from .text.continuation import Continuation as Continuation, continuation as continuation
from .text.generation import GuidedLM as GuidedLM, guided as guided
from .text.scoring import Scores as Scores, score as score
