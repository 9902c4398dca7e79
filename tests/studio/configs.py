"""Configs of other programs, written by hand after the forms that they publish.

Axolotl's after its examples at commit 067b021c8, LLaMA-Factory's at ff6d4d12e, Unsloth Studio's at
015bdef0d9.
"""

from __future__ import annotations

AXOLOTL_QLORA = """
base_model: acme/small-8b
model_type: LlamaForCausalLM
tokenizer_type: AutoTokenizer
plugins:
  - axolotl.integrations.liger.LigerPlugin
liger_rope: true
load_in_8bit: false
load_in_4bit: true
strict: false
datasets:
  - path: acme/instructions
    type: alpaca
    split: train[:500]
  - path: acme/more
    name: clean
    type: alpaca
    split: train
dataset_prepared_path: last_run_prepared
val_set_size: 0.05
output_dir: ./outputs/out
adapter: qlora
lora_model_dir:
sequence_len: 4096
sample_packing: true
eval_sample_packing: false
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
lora_target_modules:
  - q_proj
  - v_proj
wandb_project: mine
wandb_entity:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3
optimizer: paged_adamw_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
fp16:
tf32: false
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
flash_attention: true
warmup_ratio: 0.1
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
deepspeed: deepspeed_configs/zero3.json
special_tokens:
  pad_token: "<|end_of_text|>"
frobnicate: 7
"""

AXOLOTL_CHAT = """
base_model: acme/small-1b
chat_template: qwen3
chat_template_kwargs:
  enable_thinking: false
datasets:
  - path: talks.jsonl
    ds_type: json
    type: chat_template
    field_messages: dialogue
    field_tools: functions
    message_property_mappings:
      role: from
      content: value
    roles_to_train: ["assistant"]
    train_on_eos: turn
test_datasets:
  - path: held-out.jsonl
    ds_type: json
    split: train
    type: chat_template
val_set_size: 0
sequence_len: 2048
excess_length_strategy: truncate
sample_packing: false
train_on_inputs: true
micro_batch_size: 1
gradient_accumulation_steps: 8
num_epochs: 1
max_steps: 200
warmup_steps: 10
eval_steps: 0.25
save_steps: 50
optimizer: adamw_torch_fused
lr_scheduler: constant_with_warmup
learning_rate: 0.00001
bf16: true
seed: 7
"""

AXOLOTL_DPO = """
base_model: acme/small-1b
rl: dpo
rl_beta: 0.2
dpo_loss_type: [apo_zero]
datasets:
  - path: acme/pairs
    type: chatml.intel
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_modules: 'model.layers.[\\d]+.self_attn.(q|k|v|o)_proj'
sequence_len: 1024
micro_batch_size: 2
num_epochs: 1
learning_rate: 5e-6
load_in_8bit: true
peft_use_dora: true
"""

AXOLOTL_KTO = """
base_model: unsloth/small-1b-bnb-4bit
rl: kto
rl_beta: 0.5
kto_desirable_weight: 0.2
datasets:
  - path: acme/thumbs
    type: llama3.ultra
    split: train
adapter: qlora
load_in_4bit: true
lora_r: 16
lora_alpha: 32
sequence_len: 1024
micro_batch_size: 1
gradient_accumulation_steps: 8
num_epochs: 1
learning_rate: 1e-5
"""

AXOLOTL_ORPO = """
base_model: acme/small-1b
rl: orpo
orpo_alpha: 0.1
chat_template: chatml
datasets:
  - path: acme/pairs
    type: chat_template.argilla
lora_target_parameters:
  - mlp.experts.gate_up_proj
  - mlp.experts.down_proj
adapter: lora
lora_r: 16
lora_alpha: 32
sequence_len: 1024
micro_batch_size: 2
num_epochs: 1
learning_rate: 8e-6
"""

AXOLOTL_GRPO = """
base_model: acme/small-1b
rl: grpo
trl:
  beta: 0.001
  num_generations: 4
  max_completion_length: 512
  temperature: 0.9
  epsilon: 0.2
  epsilon_high: 0.28
  loss_type: dr_grpo
  scale_rewards: false
  use_vllm: true
  vllm_server_port: 8000
  log_completions: true
  reward_funcs:
    - trl.rewards.accuracy_reward
    - trl.rewards.think_format_reward
    - acme/reward-model
  reward_weights: [1.0, 0.5, 0.25]
datasets:
  - path: acme/sums
    type: chat_template
sequence_len: 1024
micro_batch_size: 3
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 1e-6
"""

AXOLOTL_REWARD = """
base_model: acme/small-1b
model_type: AutoModelForSequenceClassification
num_labels: 1
reward_model: true
chat_template: tokenizer_default
center_rewards_coefficient: 0.01
datasets:
  - path: acme/pairs
    type: bradley_terry.chat_template
adapter: qlora
load_in_4bit: true
lora_r: 8
lora_alpha: 8
sequence_len: 512
micro_batch_size: 4
num_epochs: 1
learning_rate: 2e-5
"""

AXOLOTL_PRETRAIN = """
base_model: acme/small-1b
pretraining_dataset:
  - path: acme/web
    name: sample
    type: pretrain
    text_column: body
    split: train
max_steps: 1000
sequence_len: 2048
sample_packing: true
micro_batch_size: 4
learning_rate: 0.0005
fsdp_config:
  fsdp_version: 2
"""

AXOLOTL_OWN_COLUMNS = """
base_model: acme/small-1b
adapter: lora
lora_r: 8
lora_alpha: 8
datasets:
  - path: rows
    data_files: rows.csv
    type:
      field_instruction: question_text
      field_output: reply
      format: "Q: {instruction} A:"
sequence_len: 1024
learning_rate: 1e-4
"""

FACTORY_SFT = """
### model
model_name_or_path: acme/small-4b-instruct
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
### dataset
dataset: greetings,tools_demo
template: qwen3_nothink
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
dataloader_num_workers: 4
### output
output_dir: saves/small/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
val_size: 0.1
eval_strategy: steps
eval_steps: 500
"""

FACTORY_DPO = """
model_name_or_path: acme/small-4b-instruct
quantization_bit: 4
quantization_method: bnb
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 16
lora_alpha: 16
lora_target: q_proj,v_proj
pref_beta: 0.2
pref_loss: orpo
dataset: pairs_demo
template: llama3
cutoff_len: 1024
per_device_train_batch_size: 2
learning_rate: 5.0e-6
num_train_epochs: 1
max_steps: 100
warmup_steps: 10
"""

FACTORY_KTO = """
model_name_or_path: acme/small-4b-instruct
stage: kto
do_train: true
finetuning_type: freeze
freeze_trainable_layers: 2
pref_beta: 0.1
dataset: thumbs_demo
template: gemma
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
"""

FACTORY_PRETRAIN = """
model_name_or_path: acme/small-4b
stage: pt
do_train: true
finetuning_type: full
dataset: web_demo
cutoff_len: 2048
optim: adafactor
deepspeed: examples/deepspeed/ds_z3_config.json
"""

FACTORY_PPO = """
model_name_or_path: acme/small-4b
reward_model: acme/reward-model
reward_model_type: full
stage: ppo
do_train: true
finetuning_type: lora
dataset: greetings
template: default
max_new_tokens: 128
ppo_epochs: 2
enable_thinking: true
"""

FACTORY_NEW = """
model: acme/small-4b
model_class: llm
peft_config:
  name: lora
  r: 16
  lora_alpha: 32
  lora_dropout: 0.05
  target_modules: all
kernel_config:
  name: auto
dist_config:
  name: fsdp2
  dcp_path: null
quant_config:
  name: bnb
  quantization_bit: 4
train_dataset: new_demo.yaml
output_dir: ./outputs/test
micro_batch_size: 1
global_batch_size: 8
cutoff_len: 2048
learning_rate: 1.0e-5
max_steps: 10
"""

NEW_DATASETS = """
pairs:
  path: acme/pairs
  split: train_prefs
  converter: pair
  size: 300
  weight: 0.5
"""

DATASET_INFO = """{
  "greetings": {"file_name": "greetings.json"},
  "tools_demo": {"file_name": "tools.json", "formatting": "sharegpt",
                 "columns": {"messages": "conversations", "tools": "tools"}},
  "pairs_demo": {"hf_hub_url": "acme/pairs", "subset": "en", "split": "train_prefs",
                 "ranking": true, "formatting": "sharegpt",
                 "columns": {"messages": "conversations", "chosen": "chosen",
                             "rejected": "rejected"}},
  "thumbs_demo": {"file_name": "thumbs.json",
                  "columns": {"messages": "dialogue", "kto_tag": "label"}},
  "web_demo": {"file_name": "web.jsonl", "columns": {"prompt": "text"}},
  "seen_demo": {"file_name": "seen.json", "columns": {"messages": "m", "images": "images"}}
}"""

UNSLOTH_LORA = """
model: unsloth/Small-0.5B
data:
  dataset: acme/instructions
  format_type: auto
training:
  training_type: lora
  max_seq_length: 2048
  load_in_4bit: true
  output_dir: outputs
  num_epochs: 1
  learning_rate: 0.0002
  batch_size: 2
  gradient_accumulation_steps: 4
  warmup_steps: 5
  max_steps: 0
  save_steps: 0
  weight_decay: 0.001
  random_seed: 3407
  packing: false
  train_on_completions: false
  gradient_checkpointing: "unsloth"
lora:
  lora_r: 64
  lora_alpha: 16
  lora_dropout: 0.0
  target_modules: "q_proj,k_proj"
  vision_all_linear: false
  use_rslora: true
  use_dora: false
  finetune_vision_layers: true
logging:
  enable_wandb: false
  wandb_token: very-secret
"""

UNSLOTH_FULL = """
model: acme/small-1b
data:
  local_dataset: [rows.jsonl]
  format_type: raw
training:
  training_type: full
  load_in_4bit: false
  max_seq_length: 1024
  num_epochs: 2
  learning_rate: 2e-5
  batch_size: 1
  gradient_checkpointing: none
"""

UNSLOTH_SETTINGS = """# Model defaults for unsloth/Small-0.6B
# Also applies to: acme/small-0.6b
training:
  max_seq_length: 1024
  num_epochs: 0
  learning_rate: 5e-5
  batch_size: 2
  gradient_accumulation_steps: 4
  warmup_steps: 5
  max_steps: 30
  save_steps: 30
  optim: "adamw_8bit"
  lr_scheduler_type: "linear"
  train_on_completions: true
lora:
  lora_r: 16
  lora_alpha: 16
  target_modules:
    - "all-linear"
inference:
  temperature: 0.6
"""

UNSLOTH_REQUEST = """
model_name: unsloth/small-8b-unsloth-bnb-4bit
training_type: Continued Pretraining
hf_dataset: acme/web
subset: en
train_split: train
dataset_slice_end: 999
format_type: raw
load_in_4bit: false
learning_rate: "1e-4"
num_epochs: 1
batch_size: 4
use_dora: true
target_modules: []
"""
