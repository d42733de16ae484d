"""Steer an instruct model towards one system prompt and away from another: python guide_chat.py [MODEL]."""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide

name = sys.argv[1] if len(sys.argv) > 1 else "HuggingFaceTB/SmolLM2-135M-Instruct"
tokenizer = AutoTokenizer.from_pretrained(name)
model = arguide.guided(AutoModelForCausalLM.from_pretrained(name))


def chat(system, user="Tell me about the sea."):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)


inputs, negative = chat("Answer as a poet."), chat("Answer as an encyclopedia.")
for scale in (1.0, 1.5, 3.0):
    texts = model.generate(
        **inputs,
        guidance_scale=scale,
        negative_prompt_ids=negative["input_ids"],
        negative_prompt_attention_mask=negative["attention_mask"],
        max_new_tokens=32,
        do_sample=False,
    )
    print(f"γ = {scale:g}:", tokenizer.decode(texts[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
