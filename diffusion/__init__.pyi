from . import (
    coherent as coherent,
    diffusers_bridge as diffusers_bridge,
    discrete as discrete,
    guidance as guidance,
    langevin as langevin,
    models as models,
    networks as networks,
    noise as noise,
    nonlinear_guidance as nonlinear_guidance,
    particles as particles,
    predictions as predictions,
    repeats as repeats,
    sampling as sampling,
    temperature as temperature,
)
from .coherent.acceptance import sample_accepted as sample_accepted
from .coherent.kernels import ancestral as ancestral
from .coherent.mixture import Mixture as Mixture
from .diffusers_bridge import Denoiser as Denoiser, from_diffusers as from_diffusers, noise_levels as noise_levels
from .discrete import masked as masked, uniform as uniform
from .guidance import combine as combine, guide as guide, log_normalizer as log_normalizer
from .langevin import (
    annealed as annealed,
    annealed_mala as annealed_mala,
    mala as mala,
    unadjusted as unadjusted,
)
from .models import (
    LogLinear as LogLinear,
    Score as Score,
    check_score as check_score,
    conditioned as conditioned,
    from_denoiser as from_denoiser,
    from_noise as from_noise,
    from_velocity as from_velocity,
    with_classifier as with_classifier,
)
from .noise import edm as edm, geometric as geometric, variance_preserving as variance_preserving
from .nonlinear_guidance import (
    Momentum as Momentum,
    guided_by as guided_by,
    projected as projected,
    rescaled as rescaled,
)
from .particles import sample_joint as sample_joint, sample_joints as sample_joints
from .predictions import dynamic_threshold as dynamic_threshold, with_denoised as with_denoised
from .repeats import repeat_joint as repeat_joint
from .sampling import (
    cfg_plus_plus as cfg_plus_plus,
    euler as euler,
    heun as heun,
    sample as sample,
    sde as sde,
    trajectory as trajectory,
)
from .temperature import gaussian_correction as gaussian_correction, scaled as scaled
