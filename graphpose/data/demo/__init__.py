"""The demo's data set: rendered scenes of people, made from a seed."""
