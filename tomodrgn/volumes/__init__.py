"""Maps: decoded from latents, or reconstructed from images."""
