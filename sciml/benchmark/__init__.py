"""All models of one experiment under equal conditions: errors, cost, and the error at equal cost."""

from sciml.benchmark._benchmark import benchmark as benchmark
from sciml.benchmark._plan import Plan as Plan
from sciml.benchmark._plan import check_fields as check_fields
from sciml.benchmark._plan import duration as duration
from sciml.benchmark._plan import target as target
