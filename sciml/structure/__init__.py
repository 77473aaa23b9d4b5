"""The structure of a model as JSON: enough to rebuild it without the script that made it, and without running code.

`describe` writes what a model is made of, `rebuild` makes it again with zeros in its arrays, whose values are in the
checkpoints. Classes and functions are stored by names, and a name stands for an object of the table of this package or
for one that the caller passes: nothing is imported because a file names it.
"""

from sciml.structure._describe import describe as describe
from sciml.structure._rebuild import rebuild as rebuild
from sciml.structure._vocabulary import known_names as known_names
from sciml.structure._vocabulary import modules_of as modules_of
