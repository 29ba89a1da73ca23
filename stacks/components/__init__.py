"""The parts of the landing zone, one component each: what is declared together, made together and gone together."""
