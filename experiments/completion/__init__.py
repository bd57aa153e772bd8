"""Missing keypoints of real people completed from those that are there: which graph carries information?"""
