"""Neural ordinary, controlled and stochastic differential equations on diffrax, cheap to solve by regularisation."""
