"""Training of the classifier: is a mitotic figure normal or atypical?"""
