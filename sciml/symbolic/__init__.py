"""Symbolic expressions: trees, prefix tokens, number tokens, text, SymPy and LaTeX, and evaluation in JAX.

A system is a tuple of expressions, one per component. Expressions are built with Python's operators, and nothing is
reordered or simplified:

>>> from sciml import symbolic
>>> x, y, z = symbolic.states(3)
>>> lorenz = (10.0 * y + -10.0 * x, 28.0 * x - x * z - y, x * y + -2.67 * z)
>>> symbolic.system_to_text(lorenz)
'10.0 * u_1 + -10.0 * u_0 | 28.0 * u_0 - u_0 * u_2 - u_1 | u_0 * u_1 + -2.67 * u_2'
>>> symbolic.to_tokens(lorenz[0])
['add', 'mul', '+', 'N100', 'E-1', 'u_1', 'mul', '-', 'N100', 'E-1', 'u_0']
>>> vocabulary = symbolic.ode_vocabulary(3)
>>> ids = vocabulary.encode(symbolic.system_to_tokens(lorenz))
>>> symbolic.system_from_tokens(vocabulary.decode(ids)) == lorenz
True

A `VectorField` is a right-hand side with the call signature of diffrax; its constants are a vector of parameters:

>>> import jax.numpy as jnp
>>> field = symbolic.VectorField(lorenz)
>>> field(0.0, jnp.array([1.0, 2.0, 3.0])).tolist()
[10.0, 23.0, -6.01...]
>>> field.constants.shape
(4,)

A skeleton has placeholders in place of the numbers. It is the input of a network if the numbers are not known:

>>> symbolic.to_text(symbolic.skeleton(lorenz)[2])
'u_0 * u_1 + PLACEHOLDER * u_2'
"""

from sciml.symbolic._edit import AbstractNesting as AbstractNesting
from sciml.symbolic._edit import LeftNested as LeftNested
from sciml.symbolic._edit import RightNested as RightNested
from sciml.symbolic._edit import Sum as Sum
from sciml.symbolic._edit import Term as Term
from sciml.symbolic._edit import candidate_terms as candidate_terms
from sciml.symbolic._edit import delete_term as delete_term
from sciml.symbolic._edit import insert_term as insert_term
from sciml.symbolic._edit import perturb_terms as perturb_terms
from sciml.symbolic._edit import whole_components as whole_components
from sciml.symbolic._evaluate import evaluate as evaluate
from sciml.symbolic._evaluate import evaluate_system as evaluate_system
from sciml.symbolic._evaluate import parameters as parameters
from sciml.symbolic._evaluate import with_parameters as with_parameters
from sciml.symbolic._latex import to_latex as to_latex
from sciml.symbolic._numbers import NumberCodec as NumberCodec
from sciml.symbolic._posterior import Band as Band
from sciml.symbolic._posterior import Posterior as Posterior
from sciml.symbolic._posterior import linearised_band as linearised_band
from sciml.symbolic._posterior import posterior as posterior
from sciml.symbolic._posterior import sampled_band as sampled_band
from sciml.symbolic._prefix import from_tokens as from_tokens
from sciml.symbolic._prefix import system_from_tokens as system_from_tokens
from sciml.symbolic._prefix import system_from_tokens_as_published as system_from_tokens_as_published
from sciml.symbolic._prefix import system_to_tokens as system_to_tokens
from sciml.symbolic._prefix import to_tokens as to_tokens
from sciml.symbolic._program import Program as Program
from sciml.symbolic._program import programs as programs
from sciml.symbolic._refine import Refined as Refined
from sciml.symbolic._refine import refine as refine
from sciml.symbolic._shooting import FittedConstants as FittedConstants
from sciml.symbolic._shooting import Pieces as Pieces
from sciml.symbolic._shooting import check_trajectories as check_trajectories
from sciml.symbolic._shooting import cut as cut
from sciml.symbolic._shooting import fit_constants as fit_constants
from sciml.symbolic._skeleton import canonical as canonical
from sciml.symbolic._skeleton import equivalent as equivalent
from sciml.symbolic._skeleton import simplified as simplified
from sciml.symbolic._skeleton import skeleton as skeleton
from sciml.symbolic._sympy import from_sympy as from_sympy
from sciml.symbolic._sympy import to_sympy as to_sympy
from sciml.symbolic._text import from_text as from_text
from sciml.symbolic._text import system_from_text as system_from_text
from sciml.symbolic._text import system_to_text as system_to_text
from sciml.symbolic._text import to_text as to_text
from sciml.symbolic._tree import ARITY as ARITY
from sciml.symbolic._tree import PLACEHOLDER as PLACEHOLDER
from sciml.symbolic._tree import AbstractExpression as AbstractExpression
from sciml.symbolic._tree import Apply as Apply
from sciml.symbolic._tree import Integer as Integer
from sciml.symbolic._tree import Placeholder as Placeholder
from sciml.symbolic._tree import Real as Real
from sciml.symbolic._tree import System as System
from sciml.symbolic._tree import Variable as Variable
from sciml.symbolic._tree import as_expression as as_expression
from sciml.symbolic._tree import cos as cos
from sciml.symbolic._tree import depth as depth
from sciml.symbolic._tree import exp as exp
from sciml.symbolic._tree import fold as fold
from sciml.symbolic._tree import inv as inv
from sciml.symbolic._tree import log as log
from sciml.symbolic._tree import product as product
from sciml.symbolic._tree import sin as sin
from sciml.symbolic._tree import size as size
from sciml.symbolic._tree import sqrt as sqrt
from sciml.symbolic._tree import states as states
from sciml.symbolic._tree import tanh as tanh
from sciml.symbolic._tree import variables as variables
from sciml.symbolic._tree import walk as walk
from sciml.symbolic._vector_field import VectorField as VectorField
from sciml.symbolic._vocabulary import DERIVATIVES as DERIVATIVES
from sciml.symbolic._vocabulary import Vocabulary as Vocabulary
from sciml.symbolic._vocabulary import fluid_vocabulary as fluid_vocabulary
from sciml.symbolic._vocabulary import ode_vocabulary as ode_vocabulary
from sciml.symbolic._vocabulary import pde_vocabulary as pde_vocabulary
