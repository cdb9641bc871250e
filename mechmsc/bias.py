"""BBQ: accuracy by context condition and the bias score by dimension."""
