"""What things were called before: pieces that learners have kept under an old name go on working under the new one."""

import ast

# Module of minivdm -> where its contents are now; a name that went elsewhere than the rest of its module stands alone.
MODULES = {
    "attention_maps": "evaluation.attention_maps",
    "attribute_probe": "evaluation.attribute_classifier",
    "checkpoints": "pipelines.pretrained",
    "clip": "models.clip",
    "conv3d": "models.conv3d",
    "data": "datasets.digits",
    "data.to_model_range": "datasets.pixels",
    "diffusion": "diffusion.forward_process",
    "digit_probe": "evaluation.digit_classifier",
    "extension": "diffusion.extension",
    "guidance": "diffusion.guidance",
    "layers": "models.layers",
    "metrics": "evaluation.metrics",
    "mixtures": "diffusion.mixtures",
    "precision": "training.precision",
    "predictions": "diffusion.predictions",
    "samplers": "diffusion.samplers",
    "schedules": "diffusion.schedules",
    "sde": "diffusion.sde",
    "shapes": "datasets.shapes",
    "sprites": "datasets.sprites",
    "stills": "datasets.stills",
    "text": "datasets.captions",
    "text.TextEncoder": "models.text_encoder",
    "text2image": "pipelines.text2image",
    "text2video": "pipelines.text2video",
    "training": "training.loop",
    "training.EMA": "training.ema",
    "translation": "diffusion.bridge",
    "unet": "models.unet",
    "unet3d": "models.unet3d",
    "video_files": "datasets.video_files",
    "video_folder": "datasets.video_folder",
    "viz": "evaluation.viz",
}
# Functions and classes -> their name now, in the module where they are now.
NAMES = {
    "conv3d.checked_inflation": "require_inflatable",
    "sde.flow": "probability_flow",
    "sde.spread": "expand_like",
    "sde.score_of": "score_from_eps",
    "unet3d.Temporal": "TemporalBlock",
    "unet3d.after": "temporal_block_for",
}
# Piece (its name now) -> methods, and arguments, that had another name.
METHODS = {"captions.Tokenizer": {"number_of": "token_id"}}
ARGUMENTS = {
    "samplers.ddpm_sample": {"clip": "clip_x0"},
    "samplers.ddim_sample": {"clip": "clip_x0"},
    "extension.extend": {"clip": "clip_x0"},
    "unet3d.TemporalConv": {"stills": "independent_frames"},
    "unet3d.TemporalAttention": {"stills": "independent_frames"},
    "unet3d.UNet3D": {"stills": "independent_frames"},
}


def new_place(module, name):
    """Where something of minivdm is now, as (module, name), both below minivdm: ("sde", "flow") was one such place."""
    moved = MODULES.get(f"{module}.{name}") or MODULES.get(module) or module
    return moved, NAMES.get(f"{module}.{name}", name)


def new_piece_name(name):
    """The piece's name now: "diffusion.q_sample" is "forward_process.q_sample"."""
    module, _, attribute = name.rpartition(".")
    module, attribute = new_place(module, attribute)
    return f"{module.rpartition('.')[2]}.{attribute}"


class NewNames(ast.NodeTransformer):
    """Gives functions, arguments, methods and variables other names."""

    def __init__(self, names):
        self.names = names

    def visit(self, node):
        """Rename one node; an attribute only if it is `self`'s, since `x.clip(...)` is PyTorch's."""
        for field in ("arg", "id", "name", "attr"):
            old = getattr(node, field, None)
            if old in self.names and (field != "attr" or getattr(node.value, "id", None) == "self"):
                setattr(node, field, self.names[old])
        return self.generic_visit(node)


def imports_now(node):
    """A statement as a list: `from minivdm.x import a, b` may have become several, anything else stays."""
    if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "minivdm":
        return [node]
    made = []
    for alias in node.names:
        module, name = new_place(node.module.partition(".")[2], alias.name)
        names = [ast.alias(name, alias.asname or alias.name)]
        made.append(ast.copy_location(ast.ImportFrom(f"minivdm.{module}".rstrip("."), names, 0), node))
    return [ast.fix_missing_locations(each) for each in made]


def with_new_names(tree, former):
    """The syntax tree of a kept file in today's names and with today's imports.

    A learner's own names stay, even where they are the same as a former one of minivdm's: a function of minivdm is
    renamed only where the file does not define that name itself, and an argument only where the piece has it.

    Args:
        tree: the syntax tree.
        former: the piece's name when the file was written, such as "sde.flow".
    """
    tree.body = [each for node in tree.body for each in imports_now(node)]
    module, _, attribute = former.rpartition(".")
    arguments, bound = names_of_arguments(tree), names_bound(tree)
    functions = {old.partition(".")[2]: new for old, new in NAMES.items() if old.startswith(f"{module}.")}
    names = {old: new for old, new in functions.items() if old == attribute or old not in bound}
    names |= {old: new for old, new in ARGUMENTS.get(new_piece_name(former), {}).items() if old in arguments}
    return NewNames(names | METHODS.get(new_piece_name(former), {})).visit(tree)


def names_of_arguments(tree):
    """The names of all arguments in a syntax tree, of the functions that it defines and in its calls."""
    return {node.arg for node in ast.walk(tree) if isinstance(node, (ast.arg, ast.keyword))}


def names_bound(tree):
    """The names that a syntax tree defines anywhere: functions, classes, arguments, variables."""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return stored | defined | names_of_arguments(tree)
