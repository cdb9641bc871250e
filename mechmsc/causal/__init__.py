"""Does the concept cause the uncertainty? Dose-response, mediation, simulation."""
