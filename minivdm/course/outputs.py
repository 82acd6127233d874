"""What a worked notebook keeps of its outputs: what a reader without a kernel can see."""

import base64
import io
import re

from PIL import Image

WIDGET = "application/vnd.jupyter.widget-view+json"
INSTALLED = re.compile(r"(?m)^\S*[/\\]site-packages[/\\]")  # where a warning comes from, on one person's machine


def tidy(outputs):
    """Outputs with neighbouring prints joined, overwritten progress lines gone, and live widgets as a line of text.

    Pictures keep every pixel, but no channel that says "opaque" everywhere: a tenth less to download.
    """
    kept = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output.copy())
    for output in kept:
        if output.output_type == "stream":
            output.text = "\n".join(overwritten(line) for line in INSTALLED.sub("", output.text).split("\n"))
        elif WIDGET in output.get("data", {}):
            del output.data[WIDGET]
            kind = output.data.get("text/plain", "").partition("(")[0]
            what = {"Output": "", "Text": "A box for text"}.get(kind, "A slider")  # an empty screen says nothing
            output.data["text/plain"] = what and f"{what}: it appears when this cell is run."
        elif "image/png" in output.get("data", {}):
            output.data = {**output.data, "image/png": without_alpha(output.data["image/png"])}
    return [output for output in kept if says_something(output)]


def says_something(output):
    """Whether an output holds more than empty text."""
    if output.output_type == "stream":
        return bool(output.text.strip())
    return output.get("data") != {"text/plain": ""}


def without_alpha(png):
    """A PNG picture in base64 without its alpha channel, if that is opaque everywhere; any other as it is."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode != "RGBA" or picture.getextrema()[3] != (255, 255):
        return png
    smaller = io.BytesIO()
    picture.convert("RGB").save(smaller, "PNG", optimize=True)
    return base64.b64encode(smaller.getvalue()).decode()


def overwritten(line):
    """What a terminal shows of a line with carriage returns."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")
