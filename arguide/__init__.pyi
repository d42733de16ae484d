__version__: str

from . import (
    coherent as coherent,
    continuous as continuous,
    guidance as guidance,
    ladder as ladder,
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
from .stopping import Ending as Ending
from .guidance import combine as combine, guidance_weights as guidance_weights, guide as guide, normalize as normalize
from .ladder.diagnosis import Ladder as Ladder
from .ladder.sampling import sample_ladder as sample_ladder
from .metropolis import sample_metropolis as sample_metropolis
from .coherent.acceptance import sample_accepted as sample_accepted
from .coherent.mixture import Mixture as Mixture
from .models import Autoregressive as Autoregressive, LogLinear as LogLinear, check_law as check_law
from .particles import sample_joint as sample_joint, sample_joints as sample_joints
from .repeats import repeat_joint as repeat_joint
from .sampling import sample as sample
from .smc.acceptance import Accepted as Accepted, LowAcceptanceError as LowAcceptanceError
from .smc.diagnostics import Diagnosis as Diagnosis, diagnose as diagnose, over_runs as over_runs
from .smc.samples import Chains as Chains, JointSample as JointSample, Sample as Sample, pooled as pooled
from .smc.resampling import (
    multinomial as multinomial,
    residual as residual,
    stratified as stratified,
    systematic as systematic,
)
from .transforms import (
    compose as compose,
    defensive as defensive,
    nucleus as nucleus,
    only as only,
    temperature as temperature,
    top_k as top_k,
    typical as typical,
)
from .text.settings import Condition as Condition, Guidance as Guidance
from .text.continuation import Continuation as Continuation, continuation as continuation
from .text.generation import GuidedLM as GuidedLM, guided as guided
from .text.scoring import Scores as Scores, score as score
