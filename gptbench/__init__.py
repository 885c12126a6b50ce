"""gptbench: FLOPs, memory and MFU of GPT models, counted, measured and explained."""

__version__ = "0.1.0"
