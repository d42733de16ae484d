"""Evaluation: a model class for `lm-eval` (extra `lm-eval`), to reproduce published tables of guidance.

    import arguide.text.evaluation                                    # registers the model "arguide"
    lm_eval.simple_evaluate("arguide", "pretrained=…,guidance_scale=1.5,law=joint", tasks=["lambada_openai"])

Multiple choice and log-likelihoods are scored under `law`; texts always follow the sequential law. The published tables of
Sanchez et al., "Stay on topic with classifier-free guidance", arXiv:2306.17806, score the joint law without its Z.
"""

from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from arguide import checks
from arguide.text.call_state import LAWS
from arguide.text.generation import guided
from arguide.text.prompts import padded
from arguide.text.scoring import score

Request = tuple[Any, list[int], list[int]]
Answer = tuple[float, bool]


@register_model("arguide")
class GuidedHFLM(HFLM):
    """A guided `transformers` model for `lm-eval`.

    Args:
        pretrained: as for `HFLM`.
        guidance_scale: γ.
        law: "sequential" or "joint", the law of log-likelihoods.
        negative: text of the unconditional branch; the last token of every context by default.
        kwargs: as for `HFLM`.

    Raises:
        ValueError: another law.
    """

    def __init__(
        self, pretrained: Any, guidance_scale: float = 1.5, law: str = "joint", negative: str | None = None, **kwargs: Any
    ) -> None:
        if law not in LAWS:
            raise checks.refusal("law", f"one of {', '.join(LAWS)}", law)
        self.guidance_scale, self.law, self._view = float(guidance_scale), law, None
        super().__init__(pretrained, **kwargs)
        self._view = guided(super().model)
        ids = None if negative is None else self.tok_encode(negative) or [self.prefix_token_id]
        self.negative = None if ids is None else torch.tensor([ids], device=self.device)

    @property
    def model(self) -> Any:
        """The guided view, once the model is loaded."""
        return super().model if self._view is None else self._view

    def get_model_info(self) -> dict[str, Any]:
        """Return the information that `lm-eval` writes beside the results, with the law of each."""
        law = {"guidance_scale": self.guidance_scale, "law_of_scores": self.law, "law_of_texts": "sequential"}
        return super().get_model_info() | law

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
        guidance = {"guidance_scale": self.guidance_scale, "negative_prompt_ids": self.negative}
        return super()._model_generate(context, max_length, stop, **kwargs, **guidance)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        """Return (log-likelihood, whether greedy decoding gives the same text) of every (name, context, continuation)."""
        size = override_bs or (self.batch_size if isinstance(self.batch_size, int) else 8)
        order = sorted(range(len(requests)), key=lambda i: -len(requests[i][1]) - len(requests[i][2]))
        answers: dict[int, Answer] = {}
        with tqdm(total=len(requests), desc="scoring", disable=disable_tqdm or self.rank != 0) as bar:
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                answers.update(zip(batch, self._scored([requests[i] for i in batch]), strict=True))
                bar.update(len(batch))
        for i, (name, _, _) in enumerate(requests):
            if name is not None:
                self.cache_hook.add_partial("loglikelihood", name, answers[i])
        return [answers[i] for i in range(len(requests))]

    def _scored(self, batch: list[Request]) -> list[Answer]:
        """Score one batch of requests; contexts lose their beginning where there is no room."""
        whole = [(context + text)[-self.max_length - 1 :] for _, context, text in batch]
        lengths = [min(len(text), self.max_length) for _, _, text in batch]
        contexts = [tokens[:-length] for tokens, length in zip(whole, lengths, strict=True)]
        texts = [tokens[-length:] for tokens, length in zip(whole, lengths, strict=True)]
        prompt, text = padded(contexts).to(self.device), padded(texts, right=True).to(self.device)
        scores = score(
            self.model,
            prompt.inputs,
            text.inputs,
            guidance_scale=self.guidance_scale,
            attention_mask=prompt.mask,
            text_mask=text.mask,
            negative_prompt_ids=self.negative,
        )
        values = scores.joint if self.law == "joint" else scores.sequential
        return list(zip(values.tolist(), scores.greedy.tolist(), strict=True))
