"""Answers: arrays in, tables out; every random step takes a seed."""
