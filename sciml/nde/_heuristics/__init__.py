"""What the steps of a solve tell: errors, stiffness, penalties on them, evaluations of the field."""
