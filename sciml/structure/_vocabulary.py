"""What a stored model may be made of: the table of names, and nothing else."""

import dataclasses
import functools
import importlib
import sys
from types import ModuleType
from typing import Any

TABLE: dict[str, str] = {
    "sciml.grid": "Grid Periodic Dirichlet Neumann",
    "sciml.nn": """
        AxialSpectralConv Conv CycleConfig Dense DepthwiseConv DilatedConv FieldNorm FourierFeatures Frozen InstanceNorm
        LayerNorm MLP MultiHeadAttention PlainFeature PostNorm PreNorm Prolongation RMSNorm Rematerialised Rotary
        SpectralConv Transformer TransformerBlock TransformerConfig TransformerLayer TransposedConv TuckerSpectralConv
        VCycle gelu
        """,
    "sciml.pdes": """
        BalanceLaw Bistable BurgersFlux CubicFlux LinearDiffusion LinearFlux LinearReaction Logistic PorousMedium
        SineFlux SquaredLogistic
        """,
    "sciml.operators": """
        AsChannels CNO Conditioned ConvNeXtUNet ConvNet DeepONet DilatedResNet Ensemble FFNO FNO FiLM FlaxOperator
        GalerkinTransformer GlobalResNet InPrecision Increments MgNO MgNOConfig ModernResNet NextFrames Normalised
        Normaliser Numbers Padded Patched Pointwise PointwiseHead Resampled Residual ResidualMgNO ResidualUNet Slicing
        SpectralHead Stage TFNO Transferred Transolver UNO UNet WithFields
        """,
    "sciml.interop": """
        ChannelScale DPOT Foundation MPP NeuraloperatorBlock NeuraloperatorFNO NeuraloperatorUNO Poseidon
        PublishedSpectralConv Walrus
        """,
    "sciml.preconditioners": """
        AdditiveHierarchy AdditivePreconditioner Conductances Hierarchy MediumReader SymmetricCycle
        """,
    "sciml.symbolic": """
        Apply FittedConstants Integer LeftNested NumberCodec Pieces Placeholder Program Real RightNested Sum Term
        Variable VectorField Vocabulary
        """,
    "sciml.nde": """
        Accumulated AdditiveNoise Autonomous Aux Batched BrownianGrid BrownianTree CDEDiscriminator CNF ContextEncoder
        Control DEQ Derivatives DiagonalNoise DirectionalStiffness ELBO ErrorPenalty ExactTrace FreshErrorPenalty
        GRUEncoder GeneralNoise Generator Guarded HamiltonianODE HutchinsonDivergence HutchinsonFrobenius
        HutchinsonTrace IndependentIncrements Jointly LatentODE LatentSDE LieBracketField LocalError LocalErrorPenalty
        LogSignatureControl MLPField MatrixField Monitored NeuralCDE NeuralODE NeuralSDE PerSampleMax PointUniform RNODE
        Reversible SampledStep ScaledRegulariser SecondOrderODE Solve Steer Step StepUniform Stiffness StiffnessPenalty
        SumRegulariser TayNODE TimeUniform Together WeakForm
        hermite_control linear_control lipswish natural_cubic_control observation_counts rectilinear_control step_max
        step_mean step_sum
        """,
    "sciml.prose": """
        DataDecoder DataEncoder FieldForecast FrameEmbedding FrameErrors FrameHead FrameQuery Fusion Grammar
        LearnedTimes MeanNumbers Noise PatchEmbedding PatchHead PatchQuery PatchSizes PerTrajectory Prose ProseSizes
        ProseVariant SampleEquations SampleErrors SampleForecast StateEmbedding SymbolDecoder SymbolEncoder TermNoise
        TimeEmbedding TokenEmbedding Unconstrained Unscaled
        all_embeddings data_embeddings likeliest_numbers mantissa_features symbol_embeddings
        """,
    "sciml.tasks": "Cubes",
    "equinox.nn": """
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
        AdaptivePool AvgPool1d AvgPool2d AvgPool3d Conv Conv1d Conv2d Conv3d ConvTranspose ConvTranspose1d
        ConvTranspose2d ConvTranspose3d Dropout Embedding GRUCell GroupNorm Identity LSTMCell Lambda LayerNorm Linear
        MLP MaxPool1d MaxPool2d MaxPool3d MultiheadAttention PReLU Pool RMSNorm RotaryPositionalEmbedding Sequential
        WeightNorm
        """,
    "flax.linen": """
        BatchNorm Conv ConvTranspose Dense DenseGeneral Dropout Einsum Embed FrozenDict GRUCell GroupNorm InstanceNorm
        LSTMCell LayerNorm MGUCell MultiHeadAttention MultiHeadDotProductAttention OptimizedLSTMCell PReLU RMSNorm RNN
        SelfAttention Sequential SimpleCell WeightNorm
        """,
    "jax.nn": """
        celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid log_softmax mish
        relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus standardize swish
        tanh
        """,
    "jax.numpy": """
        abs absolute add arctan cos cosh divide exp expm1 log log1p logaddexp maximum mean minimum multiply negative
        positive power reciprocal sign sin sinc sinh sqrt square subtract sum tan tanh
        bfloat16 bool_ complex128 complex64 float16 float32 float64 int16 int32 int64 int8 uint16 uint32 uint64 uint8
        """,
    "jax.nn.initializers": "ones zeros",
    "jax.lax": "Precision",
    "jax.random": "normal rademacher",
    "diffrax": """
        BacksolveAdjoint Bosh3 ClipStepSizeController ConstantStepSize
        CubicInterpolation DirectAdjoint Dopri5 Dopri8 Euler EulerHeun ForwardMode GeneralShARK HalfSolver Heun
        ImplicitAdjoint ImplicitEuler ItoMilstein KenCarp3 KenCarp4 KenCarp5 Kvaerno3 Kvaerno4 Kvaerno5
        LeapfrogMidpoint LinearInterpolation Midpoint NoProgressMeter PIDController Ralston
        RecursiveCheckpointAdjoint ReversibleHeun SEA SPaRK SRA1 SemiImplicitEuler ShARK ShOULD Sil3 SlowRK
        SpaceTimeLevyArea SpaceTimeTimeLevyArea StepTo StratonovichMilstein Tsit5 VeryChord
        BrownianIncrement VirtualBrownianTree
        """,
    "optimistix": """
        BFGS BacktrackingArmijo BestSoFarRootFinder Bisection Chord ClassicalTrustRegion DampedNewtonDescent Dogleg
        DoglegDescent FixedPointIteration GaussNewton ImplicitAdjoint LBFGS LearningRate LevenbergMarquardt
        LinearTrustRegion Newton NewtonDescent RecursiveCheckpointAdjoint max_norm rms_norm two_norm
        """,
    "lineax": "AutoLinearSolver BiCGStab CG Cholesky Diagonal GMRES LSMR LU Normal QR SVD Triangular Tridiagonal",
}
"""Module -> what a model may consist of: classes of models and layers, option groups, pure functions and types."""

INNER: dict[str, str] = {
    "sciml.nn.SmoothingStep": "sciml.nn._multigrid.SmoothingStep",
    "sciml.nn.Stencil": "sciml.nn._stencils.Stencil",
    "sciml.operators.CNOBlock": "sciml.operators._cno._Block",
    "sciml.operators.CNOLayer": "sciml.operators._cno._Layer",
    "sciml.operators.ConvNeXtBlock": "sciml.operators._convnext._Block",
    "sciml.operators.ConvNeXtRefinement": "sciml.operators._convnext._Refinement",
    "sciml.operators.FourierBlock": "sciml.operators._fno.FourierBlock",
    "sciml.operators.GalerkinAttention": "sciml.operators._galerkin._GalerkinAttention",
    "sciml.operators.GalerkinLayer": "sciml.operators._galerkin._Layer",
    "sciml.operators.GalerkinSpectralLayer": "sciml.operators._galerkin._SpectralLayer",
    "sciml.operators.GlobalResNetBlock": "sciml.operators._resnet._GlobalBlock",
    "sciml.operators.MultigridLayer": "sciml.operators._mgno.MultigridLayer",
    "sciml.operators.PhysicsAttention": "sciml.operators._transolver.PhysicsAttention",
    "sciml.operators.ResidualMultigridLayer": "sciml.operators._residual_mgno.ResidualMultigridLayer",
    "sciml.operators.ResidualUNetBlock": "sciml.operators._unet.ResidualBlock",
    "sciml.operators.UNetStage": "sciml.operators._unet._Stage",
    "sciml.operators.UNOBlock": "sciml.operators._uno._Block",
}
"""Names of parts of the models above that have no public name -> where they are."""

PARTIALS = ("functools.partial", "jax.tree_util.Partial")
"""The kinds of partial functions that a model may hold, over functions of the table alone."""

_DTYPES = """
    bool int4 int8 int16 int32 int64 uint4 uint8 uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float16 bfloat16 float32
    float64 complex64 complex128
    """
DTYPES = frozenset(_DTYPES.split())
"""Types of arrays."""

KEYS = frozenset(("threefry2x32", "rbg", "unsafe_rbg"))
"""Kinds of keys of random numbers."""


def modules_of(package: ModuleType) -> tuple[type, ...]:
    """The Equinox modules and other dataclasses of an imported package, as `classes` of `rebuild` or `experiment.load`.

    To trust them is to let saved models consist of any of them; nothing that is not imported yet is imported.

    Args:
        package: Such as `pdequinox`. What it imports from other packages is left out.
    """
    name = package.__name__
    inside = [module for key, module in sys.modules.items() if key == name or key.startswith(f"{name}.")]
    found = [item for module in inside for item in vars(module).values() if isinstance(item, type)]
    own = [item for item in found if f"{item.__module__}.".startswith(f"{name}.") and dataclasses.is_dataclass(item)]
    return tuple(dict.fromkeys(own))


def known_names() -> frozenset[str]:
    """All names of the table: what `rebuild` accepts without the caller's `classes`."""
    return frozenset(_places())


def find(name: str) -> Any:
    """The object that a name of the table stands for; None without such a name, or if its package is not installed."""
    place = _places().get(name)
    if place is None:
        return None
    module, _, attribute = place.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError:
        return None


def names() -> dict[int, str]:
    """Identity of each object of the table -> its first name, for modules that have been imported."""
    found: dict[int, str] = {}
    for name, place in _places().items():
        module, _, attribute = place.rpartition(".")
        item = getattr(sys.modules.get(module), attribute, None)
        if item is not None:
            found.setdefault(id(item), name)
    return found


@functools.cache
def _places() -> dict[str, str]:
    listed = {f"{module}.{name}": f"{module}.{name}" for module, row in TABLE.items() for name in row.split()}
    return listed | INNER | {name: name for name in PARTIALS}
