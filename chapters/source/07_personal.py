# ---
# title: LoRA, DreamBooth, Mix-of-Show
# question: How does a model learn *your* thing from four pictures?
# build: low-rank adapters, prior preservation, gradient fusion
# ---

# %% [markdown]
# # 07
# %%
from minivdm.course import start

# %% piece="lora.LoRALinear" methods=["forward"] hide=["Equation"] exercise="7.1" points=3 minutes=20

# %% piece="lora.merge_lora" kind="mend" mend="merged twice" exercise="7.2" points=2 minutes=10

# %% piece="dreambooth.prior_preservation_loss" hide=["Equation"] exercise="7.3" points=3 minutes=15

# %% piece="fusion.fused_weight" kind="derive" hide=["Equation"] exercise="7.4" points=3 minutes=25
