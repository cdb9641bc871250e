"""When does a curve over rounds settle? Convergence round, decay fit, flips, lag."""
