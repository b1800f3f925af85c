"""`asr-kd lm JOB`: n-gram language models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr_kd.core.terminal import print_json, print_text

if TYPE_CHECKING:
    from asr_kd.lm.perplexity import PerplexityReport

_Output = Annotated[Path, typer.Option(help="ARPA file to write, gzip'd where its name ends in .gz.")]
_Lm = Annotated[Path, typer.Option(help="ARPA file (.gz too), from wherever.")]
_Text = Annotated[list[Path] | None, typer.Option(help="Text (.gz too), a sentence a line; repeat it.")]
_Dev = Annotated[list[Path] | None, typer.Option(help="Development text, written as --text is; repeat it.")]
_Ids = Annotated[bool, typer.Option("--ids", help="Lines of --text and --dev begin with an utterance id.")]
_Manifests = Annotated[Path | None, typer.Option(help="Folder of manifests, for --split and --dev-split.")]
_Split = Annotated[str | None, typer.Option(help="Split whose transcripts are the text.")]
_DevSplit = Annotated[str | None, typer.Option(help="Split whose transcripts are the development text.")]
_Weights = Annotated[
    list[float] | None, typer.Option("--weight", help="Share of a model in the mixture; once for each, in order.")
]
_MaxNgrams = Annotated[int | None, typer.Option(min=1, help="Prune to at most so many n-grams.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    jobs = typer.Typer(no_args_is_help=True, help="Make, mix, prune and measure n-gram language models.")
    for job in (train, interpolate, prune, perplexity):
        jobs.command(job.__name__)(job)
    app.add_typer(jobs, name="lm")


def train(
    output: _Output,
    text: _Text = None,
    extra: Annotated[
        list[Path] | None,
        typer.Option(help="Further text without ids, mixed in as a model of its own; repeat it for several."),
    ] = None,
    dev: _Dev = None,
    ids: _Ids = False,
    manifests: _Manifests = None,
    split: _Split = None,
    dev_split: _DevSplit = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="Word list or lexicon: the closed vocabulary (default: the texts' words).")
    ] = None,
    order: Annotated[int, typer.Option(min=1, help="3 for trigrams; 1 or 2 for training lattices.")] = 3,
    min_counts: Annotated[
        list[int] | None,
        typer.Option("--min-count", help="Least count of an n-gram; once an order, the last for all higher."),
    ] = None,
    min_word_count: Annotated[
        int, typer.Option(min=1, help="Least count of a word, where no vocabulary is given.")
    ] = 1,
    unknown_word: Annotated[
        str | None, typer.Option(help="<unk> or <UNK>: predicted in place of words outside the vocabulary.")
    ] = None,
    weights: _Weights = None,
    prune_threshold: Annotated[
        float | None, typer.Option(min=0, help="Prune what raises the perplexity by a smaller share, as 1e-7.")
    ] = None,
    max_ngrams: _MaxNgrams = None,
    json: _Json = False,
) -> None:
    """N-grams from text with interpolated modified Kneser-Ney smoothing.

    Weights of extra texts are those with the least perplexity on --dev.

    Example: asr-kd lm train --text train/text --dev dev/text --ids --vocabulary lexicon.txt --output lm.arpa.gz
    """
    from asr_kd.lm.api import train_files

    report = train_files(
        output, text, extra, dev, ids, manifests, split, dev_split, vocabulary, order, min_counts, min_word_count,
        unknown_word, weights, prune_threshold, max_ngrams,
    )
    if json:
        _print_json(report.as_dict())
        return
    for number, part in enumerate(report.components):
        name = "text" if number == 0 else f"extra {number}"
        print_text(f"{name}: {part.sentences} sentences, {part.words} words, {part.oov} outside the vocabulary; "
              f"n-grams {_counts(part.ngrams)}; weight {part.weight:.4f}")
        orders = [f"{n}-grams" for n, discounts in enumerate(part.discounts, 1) if discounts.is_fallback]
        if orders:
            print_text(f"{name}: too little text for discounts of their own ({', '.join(orders)}); "
                       "0.5, 1 and 1.5 taken")
        if part.dev is not None and len(report.components) > 1:
            print_text(f"{name}: {_describe(part.dev)}")
    if report.dev_unpruned is not None and report.ngrams != report.ngrams_unpruned:
        print_text(f"before pruning: n-grams {_counts(report.ngrams_unpruned)}; {_describe(report.dev_unpruned)}")
    print_text(f"{output}: {report.vocabulary} words with </s>, n-grams {_counts(report.ngrams)}")
    if report.dev is not None:
        print_text(f"development text: {_describe(report.dev)}")


def interpolate(
    output: _Output,
    lm: Annotated[list[Path], typer.Option(help="ARPA file (.gz too), from wherever; repeat it.")],
    weights: _Weights = None,
    dev: _Dev = None,
    ids: _Ids = False,
    manifests: _Manifests = None,
    dev_split: _DevSplit = None,
    json: _Json = False,
) -> None:
    """Mix language models into one.

    Without --weight, the weights with the least perplexity on the development text.

    Example: asr-kd lm interpolate --lm corpus.arpa --lm books.arpa.gz --dev dev.txt --output mixed.arpa.gz
    """
    from asr_kd.lm.api import interpolate_files

    report = interpolate_files(output, lm, weights, dev, ids, manifests, dev_split)
    if json:
        _print_json(report.as_dict())
        return
    for path, weight in zip(lm, report.weights, strict=True):
        print_text(f"{weight:.4f} {path}")
    _print_written(output, report.ngrams, report.dev)


def prune(
    output: _Output,
    lm: _Lm,
    threshold: Annotated[
        float | None, typer.Option(min=0, help="Prune what raises the perplexity by a smaller share, as 1e-7.")
    ] = None,
    max_ngrams: _MaxNgrams = None,
    dev: _Dev = None,
    ids: _Ids = False,
    manifests: _Manifests = None,
    dev_split: _DevSplit = None,
    json: _Json = False,
) -> None:
    """Make a language model smaller by entropy pruning.

    Example: asr-kd lm prune --lm big.arpa.gz --max-ngrams 500000 --output small.arpa.gz
    """
    from asr_kd.lm.api import prune_file

    report = prune_file(output, lm, threshold, max_ngrams, dev, ids, manifests, dev_split)
    if json:
        _print_json(report.as_dict())
        return
    _print_written(output, report.ngrams, report.dev)


def perplexity(
    lm: _Lm,
    text: _Text = None,
    ids: _Ids = False,
    manifests: _Manifests = None,
    split: _Split = None,
    json: _Json = False,
) -> None:
    """Perplexity of a language model on a text, and its rate of words outside the vocabulary.

    Sentence ends are counted; words outside the vocabulary are not.

    Example: asr-kd lm perplexity --lm lm.arpa.gz --text data/dev/text --ids
    """
    from asr_kd.lm.api import perplexity_of_files

    report = perplexity_of_files(lm, text, ids, manifests, split)
    if json:
        _print_json(report.as_dict())
    else:
        print_text(_describe(report))


def _print_json(value: dict[str, Any]) -> None:
    print_json(value)


def _print_written(output: Path, ngrams: list[int], dev: "PerplexityReport | None") -> None:
    print_text(f"{output}: n-grams {_counts(ngrams)}")
    if dev is not None:
        print_text(f"development text: {_describe(dev)}")


def _counts(ngrams: list[int]) -> str:
    return " / ".join(map(str, ngrams))


def _describe(report: "PerplexityReport") -> str:
    with_oov = report.perplexity_with_oov if report.oov else None
    return (f"perplexity {report.perplexity:.2f} ({report.perplexity_without_ends:.2f} without sentence ends"
            f"{f', {with_oov:.2f} with words outside the vocabulary' if with_oov else ''}); "
            f"{report.sentences} sentences, {report.words} words, {report.oov} outside the vocabulary "
            f"({100 * report.oov_rate:.2f} %)")
