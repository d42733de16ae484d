from . import (
    autoregressive as autoregressive,
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
    schedules as schedules,
    temperature as temperature,
)
from .autoregressive import Conditionals as Conditionals, Mixture as Mixture, MixtureNetwork as MixtureNetwork
from .discrete import masked as masked, uniform as uniform
from .guidance import combine as combine, guide as guide, log_normalizer as log_normalizer
from .diffusers_bridge import Denoiser as Denoiser, from_diffusers as from_diffusers, noise_levels as noise_levels
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
from .particles import JointSample as JointSample, sample_joint as sample_joint, sample_joints as sample_joints
from .predictions import dynamic_threshold as dynamic_threshold, with_denoised as with_denoised
from .repeats import repeat_joint as repeat_joint
from .nonlinear_guidance import Momentum as Momentum, guided_by as guided_by, projected as projected, rescaled as rescaled
from .sampling import (
    cfg_plus_plus as cfg_plus_plus,
    euler as euler,
    heun as heun,
    sample as sample,
    sde as sde,
    trajectory as trajectory,
)
from .temperature import gaussian_correction as gaussian_correction, scaled as scaled
