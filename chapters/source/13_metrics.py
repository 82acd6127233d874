# ---
# title: Measuring video
# question: What does a number see of a clip, and what is it blind to?
# build: SSIM, the Frechet distance, KID and KVD, the inception score, an experiment that finds blind spots
# ---

# %% piece="picture_metrics.ssim_of_moments" exercise="13.1" points=2 minutes=15 kind="derive" hide=["Equation"]

# %% piece="picture_metrics.ssim" exercise="13.2" points=2 minutes=15 hide=["Equation"]

# %% piece="metrics.frechet_distance" exercise="13.3" points=3 minutes=25 kind="mend" mend="uncorrelated, and one sample will do" hide=["Equation"]

# %% piece="fooling.same_moments" exercise="13.4" points=2 minutes=15 kind="design"

# %% piece="metrics.polynomial_mmd" exercise="13.5" points=3 minutes=20 kind="mend" mend="all pairs, and nothing below 0" hide=["Equation"]

# %% piece="scores.inception_score" exercise="13.6" points=2 minutes=15 hide=["Equation"]

# %% piece="blind_spots.notices" exercise="13.7" points=3 minutes=25 kind="find" hide=["Equation"]

# %% piece="fooling.worthless" exercise="13.8" points=3 minutes=20 kind="design"
