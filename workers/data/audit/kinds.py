"""Every kind of finding of the audit, declared once: what it means, what to do, how grave it is."""

from __future__ import annotations

from typing import NamedTuple

from workers.data.audit.dedup import GRAM, SIMILAR


class Kind(NamedTuple):
    """A finding's sentence, what to do, and from which share of rows it is how grave."""

    meaning: str
    remedy: str
    warning: float
    alarm: float = 2.0
    """2 stands for never."""


KINDS: dict[str, Kind] = {
    "no_trained_tokens": Kind(
        "These rows have no token to learn: their answer begins after the max sequence length.",
        "Raise training.max_length, or shorten their prompts.", 0.0, 0.1,
    ),
    "truncated": Kind(
        "These rows are longer than the max sequence length and are truncated.",
        "Raise training.max_length or split long rows.", 0.05, 0.5,
    ),
    "too_long": Kind(
        "These rows, or answers of theirs, are longer than the max sequence length and are left "
        "out: half an answer would teach to break off.",
        "Raise training.max_length or split long rows.", 0.05, 0.5,
    ),
    "answer_cut_off": Kind(
        "The end of these answers is truncated, so that the model learns to break off.",
        "Raise training.max_length or leave these rows out.", 0.0, 0.1,
    ),
    "end_of_turn_masked": Kind(
        "The token that ends the answer is masked: the model would never stop talking.",
        "Give the tokenizer a chat template that ends each turn with its end token, or take the "
        "instruct version of the model.", 0.0, 0.1,
    ),
    "segments_without_end": Kind(
        "No end token stands at the end of what these segments teach: the model would never stop "
        "talking.",
        "Write the model's end token, such as </s> or <|im_end|>, into the last segment that is "
        "learnt; nothing is added to segments.", 0.0, 0.1,
    ),
    "end_of_turn_unknown": Kind(
        "The token that ends the answer is none that generation stops at.",
        "Name it as eos_token in the tokenizer or in generation_config.json.", 0.0,
    ),
    "unlike_inference": Kind(
        "The chat template makes these rows differ in training from what the model reads and "
        "writes at inference.",
        "Look at one of them in the token view; another chat template may do without.", 0.5,
    ),
    "wrong_template": Kind(
        "The text holds marks of a chat template, which the model's own template would wrap again.",
        "Bring plain turns, in messages or prompt and completion, without any template.", 0.0, 0.1,
    ),
    "template_literal": Kind(
        "The text holds a blank of a template that nobody filled in.",
        "Fill the template in before saving the rows, or remove these.", 0.0, 0.1,
    ),
    "empty_answer": Kind(
        "These answers say nothing.", "Remove these rows or bring their answers.", 0.0, 0.1,
    ),
    "identical_answers": Kind(
        "Most rows have one and the same answer; the model would learn it and nothing else.",
        "Check that the right column is the answer; if it is, bring more kinds of answers.",
        0.0, 0.9,
    ),
    "chosen_equals_rejected": Kind(
        "The better and the worse answer are the same.",
        "Remove these pairs: nothing can be learnt from them.", 0.0, 0.1,
    ),
    "missing_prompt": Kind(
        "These rows ask nothing.", "Bring their prompts, or use the rows as plain text.", 0.0, 0.1,
    ),
    "length_leak": Kind(
        "The better answer is nearly always the longer one: length alone tells them apart, and the "
        "model may learn to ramble.",
        "Bring pairs whose better answer is the shorter one, or take SimPO, which divides by "
        "length.", 0.0,
    ),
    "unclosed_thinking": Kind(
        "The thinking in these answers is opened and not closed, or closed and not opened.",
        "Mend the <think> and </think> marks of these rows.", 0.0, 0.1,
    ),
    "answer_not_in_completion": Kind(
        "The final box of these answers differs from the row's answer column.",
        "Correct whichever is wrong; training would teach the completion, rewards the answer.",
        0.0, 0.1,
    ),
    "one_label": Kind(
        "All labels are of one kind: there is nothing to tell good answers from bad ones by.",
        "Bring answers with the other label too, some hundreds of each, or take SFT on good ones.",
        0.0, 0.9,
    ),
    "answer_in_question": Kind(
        "The reference answer of these rows stands in their own question, where it can be copied.",
        "Remove it from the questions, unless it is one of several to choose from.", 0.2,
    ),
    "unread_flags": Kind(
        "The turns of these rows carry keys that nothing looks at.",
        "See whether they change what the rows mean; remove the keys if not.", 2.0,
    ),
    "exact_duplicates": Kind(
        "These rows stand in the dataset before, word for word.",
        "Remove them, unless they are meant to weigh more.", 0.05, 0.5,
    ),
    "near_duplicates": Kind(
        f"These rows say nearly what an earlier one says (similarity of {SIMILAR:.0%} or more).",
        "Keep one of each group.", 0.1, 0.5,
    ),
    "test_overlap": Kind(
        f"Rows that the run is measured on stand in its training rows, whole or in runs of {GRAM} "
        "words: the measure would flatter.",
        "Remove those training rows, or bring another test set.", 0.0, 0.1,
    ),
    "language_mix": Kind(
        "The rows are in more than one language.",
        "Keep them apart if the model should answer in one language.", 2.0,
    ),
    "personal_data": Kind(
        "These rows hold data of a person, which the model may learn by heart.",
        "Remove it or put a stand-in such as [EMAIL] in its place.", 0.0,
    ),
    "template_refuses": Kind(
        "The rows are sound, but the model's chat template does not take them, or writes them so "
        "that their answers cannot be told apart. The examples say why.",
        'Choose another template, model.template = "chatml" for example, or leave these rows out '
        'with bad_rows = "skip".', 0.0, 0.1,
    ),
    "goes_on": Kind(
        "These conversations go on behind their last answer; what nobody answers is left out.",
        "Nothing has to be done; bring the missing answers to learn from them too.", 2.0,
    ),
    "by_windows": Kind(
        "The text is not UTF-8 and is read as cp1252, as Excel on Windows saves CSV.",
        "Look at letters such as é and ö in the rows; save the file as CSV UTF-8 if they are "
        "wrong.", 2.0,
    ),
    "roles": Kind(
        "The turns of these rows are no conversation.",
        "Let an optional system turn come first, then user and assistant in turn, the assistant "
        "last.", 0.0, 0.1,
    ),
}  # fmt: skip
"""Every kind of finding. Below `warning` it is advice; a single row is above 0."""
