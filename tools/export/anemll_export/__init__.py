"""Exports Qwen 3 checkpoints to Core ML packages in ANEMLL's layout."""
