"""Exports checkpoints to Core ML packages in ANEMLL's layouts, and in Apple's."""
