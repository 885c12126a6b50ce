"""The only folder with torch: what runs in a process of its own, `python -m gptbench.worker`."""
