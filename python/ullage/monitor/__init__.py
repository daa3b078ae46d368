"""See what lives: reports, settings and their origin, and a guard over the memory of the process."""
