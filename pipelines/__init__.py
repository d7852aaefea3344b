"""opscore: which model, on which dataset, optimized with which technique, is fit to be operated?"""

__version__ = "0.1.0"
