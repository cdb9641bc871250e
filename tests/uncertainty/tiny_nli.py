"""A random tiny NLI model as a folder, and a judge by rule that stands in for a model that understands."""

from pathlib import Path

WORDS = "what is right to do be kind and honest help lie never always no yes paris rome not the it a good bad".split()
VERDICTS = ("entailment", "neutral", "contradiction")
MNLI_ORDER = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")


def save_tiny_nli(folder: Path, *, labels: tuple[str, ...] = MNLI_ORDER, seed: int = 5) -> Path:
    """A BERT of one layer; the weights of a label belong to its name, so other orders give the same verdicts."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(WORDS) + 4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=48,
        pad_token_id=0,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = BertForSequenceClassification(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 2.0 if "word_embeddings" in name else 0.1 if "bias" in name or "embeddings" in name else 0.6
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        model.classifier.bias.zero_()
        rows = {v: torch.randn(16, generator=generator) for v in VERDICTS}
        for i, label in enumerate(labels):
            known = next((v for v in VERDICTS if v[:6] == label.lower()[:6]), VERDICTS[i % 3])
            model.classifier.weight[i] = 3 * rows[known]
        # without this, one verdict would come out for nearly every pair
        ids = torch.randint(4, len(WORDS) + 4, (200, 12), generator=generator)
        ids[:, 0], ids[:, 6], ids[:, 11] = 1, 2, 2
        model.classifier.bias.copy_(-model.eval()(ids).logits.mean(dim=0))
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def word_tokenizer():
    """A token a word; pairs as BERT has them: [CLS] a [SEP] b [SEP], with types 0 and 1."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=48,
    )


def rule(pairs, *_):
    """Words entail the words among them; a text with "not" contradicts one without; else neutral. Per pair: 3 numbers.

    The question lends its words to both sides, as in a real pair: "Paris" alone entails "it is Paris" where the
    question asks "what is it".
    """
    scores = []
    for question, premise, hypothesis in pairs:
        p, h = (set(f"{question} {text}".lower().replace(".", "").split()) for text in (premise, hypothesis))
        if ("not" in p) != ("not" in h):
            scores.append([0.1, 0.2, 0.7])
        else:
            scores.append([0.8, 0.1, 0.1] if h <= p else [0.1, 0.8, 0.1])
    return scores
