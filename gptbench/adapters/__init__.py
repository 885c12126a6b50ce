"""MFUMeter in other people's training frameworks; each module needs its own."""
