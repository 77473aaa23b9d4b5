"""How an equation is solved: one state or a batch, running integrals, regularisation."""
