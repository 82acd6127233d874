# ---
# title: Latent diffusion
# question: Why paint every pixel twenty times?
# build: a variational autoencoder, its loss and scale, text to image and image to image in latents
# ---

# %% [markdown]
# # 06 · Latent diffusion: paint small, then decode

# %%
from minivdm.course import budget, check, piece, start

start("06_latent")

# %% piece="autoencoder.gaussian_kl" exercise="6.1" points=3 minutes=15 kind="derive" hide=["Equation"]

# %% piece="autoencoder.DiagonalGaussian" methods=["sample"] exercise="6.2" points=2 minutes=10 hide=["Equation"]

# %% piece="autoencoder.vae_loss" exercise="6.3" points=2 minutes=10 kind="mend" mend="a mean beside a sum"

# %% piece="rate_distortion.design_code" exercise="6.4" points=3 minutes=20 kind="design"

# %% piece="autoencoder.latent_scale" exercise="6.5" points=1 minutes=10 kind="mend" mend="the standard deviation itself"

# %% piece="latent.strength_levels" exercise="6.6" points=3 minutes=15 hide=["Equation"]

# %% piece="latent.image_to_image" exercise="6.7" points=3 minutes=20
