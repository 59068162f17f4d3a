"""Does depth hurt a plain network, and do shortcuts cure it? He et al. 2015, section 4.2."""
