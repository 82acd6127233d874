"""What a worked notebook keeps of its outputs: what a reader without a kernel can see."""

WIDGET = "application/vnd.jupyter.widget-view+json"


def tidy(outputs):
    """Outputs with neighbouring prints joined, overwritten progress lines gone, and live widgets as a line of text."""
    kept = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output.copy())
    for output in kept:
        if output.output_type == "stream":
            output.text = "\n".join(overwritten(line) for line in output.text.split("\n"))
        elif WIDGET in output.get("data", {}):
            del output.data[WIDGET]
            output.data["text/plain"] = "A slider: it appears when this cell is run."
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def overwritten(line):
    """What a terminal shows of a line with carriage returns."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")
