"""Commands around files of networks: info, pack, import, export."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from graphpose.cli.options import add_decoder_option, add_usage_options, decoder_of, usage_of_options
from graphpose.errors import GraphposeError


def add_info_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)


def run_info(options: argparse.Namespace) -> int:
    """Configuration, skeleton and training state of a checkpoint."""
    from graphpose.checkpoint import load_checkpoint, modes_of, statistics_of
    from graphpose.graphs.mode_statistics import mode_lines

    content = load_checkpoint(options.checkpoint)
    config = dict(content["config"])
    skeleton = config.pop("skeleton")
    print(f"skeleton {skeleton['name']}: {len(skeleton['keypoints'])} keypoints, {len(skeleton['limbs'])} limbs")
    for name, value in config.items():
        print(f"{name}: {value}")
    print(f"parameters: {sum(t.numel() for t in content['network'].values() if t.is_floating_point()):,}")
    print(f"averaged weights: {'yes' if content['ema'] is not None else 'no'}")
    print(f"epochs trained: {content['training'].get('epoch', 'unknown')}")
    statistics = statistics_of(content)
    print(f"pose statistics: {statistics.line() if statistics else 'those shipped for the skeleton, if any'}")
    if content.get("graph"):
        print(f"graph: {content['graph']['source']}, SHA-256 {content['graph']['sha256']}")
    for line in mode_lines(modes_of(content)):
        print(line)
    for name, value in content.get("card", {}).items():
        print(f"{name}: {value}")
    return 0


def add_pack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="checkpoint or folder of a run")
    parser.add_argument("out", type=Path, help="the .safetensors file")
    parser.add_argument(
        "--weights", choices=("int8", "float16", "float32"), default="int8", help="of convolutions (default: int8)"
    )
    parser.add_argument("--card", type=Path, help="JSON object of texts: data, licence, scores, …")
    add_decoder_option(parser)
    add_usage_options(parser)


def run_pack(options: argparse.Namespace) -> int:
    """Write a checkpoint's network with what is needed to use it as one small .safetensors file."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint
    from graphpose.packed import pack

    content = load_checkpoint(options.checkpoint)
    network = network_from_checkpoint(content, options.checkpoint)
    decoder = decoder_of(options, content)
    card = content.get("card", {}) | ({} if options.card is None else _read_card(options.card))
    usage = usage_of_options(options, content)
    pack(options.out, network, decoder=decoder.to_dict(), usage=usage.to_dict(), card=card, weights=options.weights)
    print(f"written to {options.out}, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


def _read_card(path: Path) -> dict[str, str]:
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise GraphposeError(f"model card '{path}' cannot be read: {error}") from error
    if not isinstance(card, dict) or not all(isinstance(text, str) for text in card.values()):
        raise GraphposeError(f"model card '{path}' must be a JSON object of texts")
    return card


def add_import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", help="OpenPifPaf file, or pifpaf-resnet50, -resnet101, -resnet152, -resnext50 to download it"
    )
    parser.add_argument("--out", type=Path, default=Path("baseline.pt"), help="the checkpoint (default: baseline.pt)")


def run_import(options: argparse.Namespace) -> int:
    """Make a checkpoint of a network that OpenPifPaf trained, from its file (v0.8, or 0.11 to 0.13), of which nothing
    is run, or from the name of a published baseline, which is downloaded from its authors' address."""
    from graphpose.checkpoint import save_checkpoint
    from graphpose.openpifpaf.convert import import_checkpoint
    from graphpose.openpifpaf.published import find_file, model_card

    imported = import_checkpoint(find_file(options.source))
    config = imported.network.config
    card = model_card(options.source, imported.form, config.scale_factor)
    training = {} if imported.epoch is None else {"epoch": imported.epoch}
    save_checkpoint(options.out, imported.network, config, decoder=imported.decoder, training=training, card=card)
    print(f"{config.backbone}, fields at stride {config.field_stride}, skeleton {config.skeleton.name}")
    if imported.left_out:
        print(f"heads left out: {', '.join(imported.left_out)}")
    for name, value in card.items():
        print(f"{name}: {value}")
    print(f"written to {options.out}")
    return 0


def add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="the .onnx file")


def run_export(options: argparse.Namespace) -> int:
    """Write a checkpoint's network, folded, as ONNX. What its input, fields and poses are made of (colours, mean, size,
    skeleton, channels, thresholds) is in the file's metadata and in a JSON file beside it."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint, usage_of
    from graphpose.fields.config import DecoderConfig
    from graphpose.inference.export import export_onnx

    content = load_checkpoint(options.checkpoint)
    written = export_onnx(
        network_from_checkpoint(content, options.checkpoint),
        options.out,
        decoder=DecoderConfig.from_dict(content["decoder"]).to_dict(),
        usage=usage_of(content).to_dict(),
    )
    print(f"written to {written} and {written.with_suffix('.json')}")
    return 0
