"""How unsure a model is: choice, semantic and sequence entropies. Arrays in, nats out; no model is needed."""
