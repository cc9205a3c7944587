"""Networks of torchvision, transformers and timm as Core ML models, held against PyTorch."""
