"""Keys of the three programs that have no counterpart in a recipe, and why they need none.

A key is looked up in its program's table, then in COMMON. Patterns are those of a shell; a pattern
for a table serves for all that is in it.
"""

from __future__ import annotations

from studio.importing.account import Reason, Reasons

ONE_GPU = "one GPU is used here"
SPEED = "a matter of speed or memory; nothing is to be set here"
LOGGED = "runs are logged in this program, by no other service"
FILES = "the run's folder holds what is written"
PREPARED = "data is prepared and kept without being told to"
TOKENS = "found from the tokenizer and the chat template"
NOT_RUN = "code that comes with a model or a dataset is never run"
OWN_STEPS = "the run measures and saves by steps of its own"
PLAIN_LORA = "this kind of adapter is not offered; a plain one is trained"
NO_EIGHT_BITS = "8-bit weights are not offered: 16 bits are, or 4 with model.method = 'qlora'"
NOT_GONE_ON_WITH = (
    "an adapter from elsewhere is not gone on with; merge it into its base and name that"
)
LAYERS = "single layers cannot be chosen; model.method says what is trained"

COMMON: Reasons = (
    Reason(
        """
        deepspeed* fsdp* ddp* dp_* tensor_parallel* context_para* cp_* sequence_parallel*
        expert_parallel* pipeline_* dist_* ray_* use_ray heads_k_stride ring_attn_func
        world_size local_rank device_map mp_* accelerator_config
        """,
        ONE_GPU,
    ),
    Reason(
        """
        wandb* swanlab* use_swanlab use_wandb trackio* use_trackio mlflow* comet* report_to
        run_name logging_* log_* use_tensorboard tensorboard_dir plot_loss
        include_tokens_per_second include_tkps use_otel* otel_* profiler*
        """,
        LOGGED,
        needless=True,
    ),
    Reason(
        """
        flash_attn* flash_attention flash_optimum sdp_attention eager_attention
        xformers_attention sage_attention flex_attn* flex_attention attn_implementation
        liger* enable_liger_kernel torch_compile* tf32 cut_cross_entropy
        chunked_cross_entropy* lora_*_kernel fused_attn_kernel use_kernels use_*_kernels
        kernel_config use_unsloth* dataloader_* gradient_checkpointing_kwargs
        use_reentrant_gc activation_offloading layer_offloading low_cpu_mem_usage pad_to_*
        unsloth_* compile* gpu_memory_* max_memory torch_empty_cache_steps gc_*
        group_by_length batching_strategy batching_workers init_config *_attn_impl
        """,
        SPEED,
        needless=True,
    ),
    Reason(
        """
        output_dir overwrite_output_dir save_only_model save_total_limit save_safetensors
        hub_* push_to_hub* project_name save_first_step save_ckpt_as_hf hf_use_auth_token
        hf_token
        """,
        FILES,
        needless=True,
    ),
    Reason(
        """
        *_num_workers dataset_prepared_path overwrite_cache streaming* buffer_size
        dataset_processes dataset_num_proc dataset_keep_in_memory preprocessing_*
        tokenized_path skip_prepare_dataset remove_unused_columns shuffle_*
        push_dataset_to_hub data_shared_file_system
        """,
        PREPARED,
        needless=True,
    ),
    Reason(
        "trust_remote_code",
        NOT_RUN,
    ),
    Reason(
        """
        eval_batch_size per_device_eval_batch_size eval_strategy evaluation_strategy
        load_best_model_at_end metric_for_best_model greater_is_better save_strategy
        """,
        OWN_STEPS,
        needless=True,
    ),
    Reason(
        "early_stopping*",
        "goes by evaluation.every_steps and held-out rows, of which there are none",
    ),
    Reason(
        "neftune*",
        "noise on embeddings is offered in supervised fine-tuning alone",
    ),
    Reason(
        "resume_from_checkpoint auto_resume*",
        "a run is resumed from its page or by `resume`",
        needless=True,
    ),
)
AXOLOTL: Reasons = (
    Reason("max_packed_sequence_len gptq_*", SPEED, needless=True),
    Reason("reinit_weights", "training starts from the model's weights, not from noise"),
    Reason("default_system_message", "a system message comes from the rows or the template"),
    Reason(
        """
        plugins experimental_skip_move_to_device tiled_mlp* experts_implementation
        use_scattermoe use_sonicmoe eval_sample_packing sample_packing_* pretrain_multipack*
        multipack_* batch_flattening embeddings_skip_upcast fp32_norm* quantize_moe_experts
        dsv4_* llama4_linearized_experts bnb_config_kwargs nvfp4_* lora_on_cpu
        qlora_sharded_model_loading eval_table_size eval_max_new_tokens debug device
        large_head_attention
        """,
        SPEED,
        needless=True,
    ),
    Reason(
        """
        special_tokens tokens added_tokens_overrides eot_tokens tokenizer_*
        resize_token_embeddings* mean_resizing_embeddings shrink_embeddings
        fix_untrained_tokens
        """,
        TOKENS,
        needless=True,
    ),
    Reason(
        """
        model_type model_config is_*_derived_model type_of_model cls_model_config
        base_model_config base_model_ignore_patterns num_labels processor_kwargs
        model_quantization_config* freeze_mm_modules
        """,
        "the kind of model is found from its own files",
        needless=True,
    ),
    Reason(
        """
        relora* jagged_restart* lisa_* peft peft.* peft_* loraplus* lora_fan_in_fan_out
        lora_target_parameters lora_rank_pattern lora_alpha_pattern lora_modules_to_save
        """,
        PLAIN_LORA,
    ),
    Reason(
        "unfrozen_parameters",
        LAYERS,
    ),
    Reason(
        "qat quantization fp8* llmcompressor use_onebitllms",
        "training for a quantised or sparse result is not offered; exports quantise afterwards",
    ),
    Reason(
        "use_eaft eaft_*",
        "the loss is the plain one",
    ),
    Reason(
        """
        adam_* optim_args optim_target_modules lr_scheduler_kwargs cosine_*
        lr_quadratic_warmup lr_div_factor lr_groups embedding_lr* eta_min torchdistx_path
        """,
        "finer settings of optimizer and schedule are not offered",
    ),
    Reason(
        "loss_watchdog*",
        "the coach watches the loss",
        needless=True,
    ),
    Reason(
        "evals_per_epoch saves_per_epoch",
        "counted in steps here: evaluation.every_steps and training.save_every_steps",
    ),
    Reason(
        "do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_*",
        "held-out loss and answers are measured by themselves",
        needless=True,
    ),
    Reason(
        """
        curriculum_sampling sample_packing_sequentially min_sample_len max_prompt_len
        """,
        "the order of rows and their least length cannot be set",
    ),
    Reason(
        "dataset_exact_deduplication",
        "the data check names duplicates; rows are kept",
    ),
    Reason(
        "strict dataset_shard*",
        "nothing is to be set for it",
        needless=True,
    ),
    Reason(
        "*.trust_remote_code",
        NOT_RUN,
    ),
    Reason(
        "*.revision",
        "the dataset's newest revision is taken",
    ),
    Reason(
        "*.train_on_eos *.train_on_eot",
        "the end of each answer is learnt",
        needless=True,
    ),
    Reason(
        "*.message_field_training*",
        "turns that are not to be learnt are told by train, weight or loss",
    ),
    Reason(
        "*.shards* *.preprocess_shards *.skip",
        "single parts of a dataset cannot be asked for; data.limit bounds its rows",
    ),
    Reason(
        "*.split_thinking",
        "thinking in answers is found by its tags",
        needless=True,
    ),
    Reason(
        "revision_of_model",
        "the model's newest revision is taken",
    ),
    Reason(
        """
        vllm trl.vllm* trl.async* trl.prefetch* trl.use_data_producer trl.streaming*
        trl.use_liger* trl.generation_batch_size trl.reward_num_workers
        """,
        "generation is set up by itself: rl.fast_generation",
        needless=True,
    ),
    Reason(
        "trl.log_completions trl.num_completions*",
        "completions are kept and shown",
        needless=True,
    ),
    Reason(
        "trl.*",
        "this finer setting of GRPO is not offered",
    ),
)
LLAMA_FACTORY: Reasons = (
    Reason(
        """
        megatron* use_mca use_megatron* *_parallel_size sequence_parallel
        use_distributed_optimizer overlap_* moe_* use_packed_sequences mixed_precision
        export_hf_on_finish recompute_* bias_activation_fusion apply_rope_fusion
        use_hyper_parallel hyper_parallel* use_kt kt_*
        """,
        ONE_GPU,
    ),
    Reason(
        """
        use_galore galore* use_apollo apollo* use_badam badam* use_adam_mini use_muon
        optim_*
        """,
        "AdamW instead of this optimizer: more memory, and perhaps another learning rate",
    ),
    Reason(
        """
        use_rslora pissa* loraplus* oft_* create_new_adapter additional_target
        module_dropout
        """,
        PLAIN_LORA,
    ),
    Reason(
        "freeze_trainable* freeze_extra* use_llama_pro",
        LAYERS,
    ),
    Reason(
        "freeze_vision_tower freeze_multi_modal_projector freeze_language_model",
        "the language model alone is trained",
    ),
    Reason(
        "use_dft_loss use_asft_loss asft_alpha use_eaft_loss eaft_alpha",
        "the loss is the plain one",
    ),
    Reason(
        """
        fp8* quantization_type double_quantization quantization_device_map
        quantization_method
        """,
        "weights are held in 4 bits (NF4) or 16",
    ),
    Reason(
        """
        kto_*_weight pref_bco_weight ld_alpha ppo_score_norm ppo_target ppo_whiten_rewards
        ppo_buffer_size
        """,
        "this finer setting is not offered",
    ),
    Reason(
        "ref_model*",
        "the reference is the model as it was at the start",
    ),
    Reason(
        """
        ignore_pad_token_for_loss tool_format resize_vocab use_fast_tokenizer
        split_special_tokens new_special_tokens* add_*tokens default_system
        """,
        "the tokenizer and its chat template say so",
        needless=True,
    ),
    Reason(
        "adam_* lr_scheduler_kwargs",
        "finer settings of optimizer and schedule are not offered",
    ),
    Reason(
        "mask_history preserve_thinking disable_shuffling",
        "not offered",
    ),
    Reason(
        """
        eval_on_each_dataset compute_accuracy predict_with_generate do_eval do_predict
        eval_num_beams
        """,
        "held-out loss and answers are measured by themselves",
        needless=True,
    ),
    Reason(
        """
        use_v1_kernels use_kernels rope_scaling upcast* use_cache infer_* cache_dir
        use_reentrant_gc media_dir image_* video_* audio_* sample_backend max_new_tokens
        """,
        SPEED,
        needless=True,
    ),
    Reason(
        "model_revision",
        "the model's newest revision is taken",
    ),
)
LLAMA_FACTORY_V1: Reasons = (
    Reason(
        "peft_config.freeze*",
        LAYERS,
    ),
    Reason(
        "sample_backend max_new_tokens batching* full_determinism",
        SPEED,
        needless=True,
    ),
    Reason(
        "optim_config",
        "AdamW instead of this optimizer: perhaps another learning rate",
    ),
    Reason(
        "lr_scheduler_config",
        "the schedule is linear without warm-up there",
    ),
    Reason(
        "quant_config.* quant_config",
        "weights are held in 4 bits (NF4) or 16",
    ),
    Reason(
        "save_epochs",
        "counted in steps here: training.save_every_steps",
    ),
    Reason(
        "cp_*",
        ONE_GPU,
    ),
    Reason(
        "ld_alpha",
        "this finer setting is not offered",
    ),
)
UNSLOTH: Reasons = (
    Reason(
        "inference inference.*",
        "how answers are sampled is chosen in the chat",
        needless=True,
    ),
    Reason(
        "logging logging.*",
        "runs are logged in this program, by no other service",
        needless=True,
    ),
    Reason(
        "lora.use_loftq lora.use_rslora lora.loftq*",
        PLAIN_LORA,
    ),
    Reason(
        "lora.finetune_* lora.vision_all_linear",
        "the language model's layers are adapted: lora.targets",
    ),
    Reason(
        "training.output_dir",
        "the run's folder holds what is written",
        needless=True,
    ),
    Reason(
        "training.eval_steps",
        "a share of the steps there; evaluation.every_steps counts them",
    ),
    Reason(
        """
        training.embedding_learning_rate training.max_grad_*
        training.cast_norm_output_to_input_dtype
        """,
        "this finer setting is not offered",
    ),
    Reason(
        "training.optim",
        SPEED,
        needless=True,
    ),
    Reason(
        "training.trust_remote_code",
        "code that comes with a model is never run",
    ),
    Reason(
        """
        model_known_cached model_local_path model_format model_snapshot_path
        dataset_known_cached dataset_local_path dataset_snapshot_path dataset_streaming
        project_name start_request_id gpu_ids approved_remote_code_fingerprint
        is_dataset_image is_dataset_audio is_embedding vision_image_size
        """,
        "belongs to a run of that program",
        needless=True,
    ),
    Reason(
        "audio_input",
        "the language model alone is trained",
    ),
    Reason("lora.*", "all weights are trained; there is no adapter"),
)
