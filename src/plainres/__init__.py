"""plainres: does depth hurt a plain network, and do shortcuts cure it? (He et al. 2015, arXiv:1512.03385, section 4.2)"""
