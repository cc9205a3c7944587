"""Vision models of transformers, and towers over images and text."""

import transformers as t

from .network import Network, features, image, tokens

SMALL = dict(
    image_size=64,
    patch_size=8,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    attn_implementation="eager",
)
TEXT = dict(
    vocab_size=300,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=32,
    attn_implementation="eager",
)


def of(name, model, config, size=64, output="logits", **options):
    build = lambda: getattr(t, model)(getattr(t, config)(**options))
    return Network(name, build, image(size), lambda m, x: getattr(m(x), output))


def clip():
    config = t.CLIPConfig(
        vision_config=SMALL,
        text_config=dict(TEXT, eos_token_id=2, bos_token_id=1, pad_token_id=0),
        projection_dim=32,
    )
    return t.CLIPModel(config)


def clip_text(model, ids):
    return model.text_projection(model.text_model(ids).last_hidden_state[:, -1])


def clip_vision(model, x):
    return model.visual_projection(model.vision_model(x).pooler_output)


def siglip():
    return t.SiglipVisionModel(t.SiglipVisionConfig(**SMALL))


def segformer():
    config = t.SegformerConfig(
        num_encoder_blocks=3,
        depths=[1, 1, 1],
        sr_ratios=[4, 2, 1],
        hidden_sizes=[16, 32, 64],
        patch_sizes=[7, 3, 3],
        strides=[4, 2, 2],
        num_attention_heads=[1, 2, 4],
        mlp_ratios=[2, 2, 2],
        decoder_hidden_size=32,
        num_labels=10,
    )
    return t.SegformerForSemanticSegmentation(config)


def swin2sr():
    config = t.Swin2SRConfig(
        image_size=32,
        embed_dim=24,
        depths=[2],
        num_heads=[2],
        window_size=4,
        upscale=2,
        mlp_ratio=2.0,
        upsampler="pixelshuffledirect",
    )
    return t.Swin2SRForImageSuperResolution(config)


def videomae():
    config = t.VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        attn_implementation="eager",
    )
    return t.VideoMAEForVideoClassification(config)


def depth_anything():
    config = t.DepthAnythingConfig(
        backbone_config=t.Dinov2Config(
            image_size=56,
            patch_size=14,
            hidden_size=48,
            num_hidden_layers=4,
            num_attention_heads=4,
            mlp_ratio=2,
            out_indices=[1, 2, 3, 4],
            apply_layernorm=True,
            reshape_hidden_states=False,
            attn_implementation="eager",
        ),
        patch_size=14,
        reassemble_hidden_size=48,
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        head_hidden_size=8,
    )
    return t.DepthAnythingForDepthEstimation(config)


def yolos():
    config = t.YolosConfig(
        image_size=[64, 64],
        patch_size=8,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_detection_tokens=10,
        attn_implementation="eager",
        num_labels=5,
    )
    return t.YolosForObjectDetection(config)


def patch_tst():
    config = t.PatchTSTConfig(
        num_input_channels=3,
        context_length=64,
        patch_length=8,
        patch_stride=8,
        d_model=32,
        num_attention_heads=4,
        num_hidden_layers=2,
        ffn_dim=64,
        prediction_length=12,
    )
    return t.PatchTSTForPrediction(config)


def sam_encoder():
    config = t.SamVisionConfig(
        image_size=64,
        patch_size=8,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_dim=128,
        output_channels=32,
        window_size=4,
        global_attn_indexes=[1],
        attn_implementation="eager",
    )
    return t.SamVisionModel(config)


def boxes(model, x):
    results = model(x)
    return results.logits, results.pred_boxes


NETWORKS = [
    Network("clip_vision", clip, image(64), clip_vision),
    Network("clip_text", clip, tokens(16, 300), clip_text),
    Network("siglip_vision", siglip, image(64), lambda m, x: m(x).pooler_output),
    of(
        "dinov2",
        "Dinov2Model",
        "Dinov2Config",
        56,
        "last_hidden_state",
        **dict(SMALL, image_size=56, patch_size=14),
        mlp_ratio=2,
    ),
    of("deit", "DeiTForImageClassification", "DeiTConfig", **SMALL),
    of(
        "convnextv2",
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 2, 1],
    ),
    of(
        "mobilevitv2",
        "MobileViTV2ForImageClassification",
        "MobileViTV2Config",
        64,
        width_multiplier=0.5,
        image_size=64,
    ),
    of(
        "pvt",
        "PvtForImageClassification",
        "PvtConfig",
        hidden_sizes=[16, 32, 64, 64],
        depths=[1, 1, 1, 1],
        image_size=64,
        num_attention_heads=[1, 2, 4, 4],
    ),
    of(
        "cvt",
        "CvtForImageClassification",
        "CvtConfig",
        embed_dim=[16, 32, 64],
        depth=[1, 2, 3],
        num_heads=[1, 2, 4],
    ),
    of(
        "focalnet",
        "FocalNetForImageClassification",
        "FocalNetConfig",
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
    ),
    Network("segformer", segformer, image(64), lambda m, x: m(x).logits),
    Network("swin2sr", swin2sr, image(32), lambda m, x: m(x).reconstruction),
    Network("videomae", videomae, features(1, 4, 3, 32, 32), lambda m, x: m(x).logits),
    Network("depth_anything", depth_anything, image(56), lambda m, x: m(x).predicted_depth),
    Network("yolos", yolos, image(64), boxes),
    Network("sam_encoder", sam_encoder, image(64), lambda m, x: m(x).last_hidden_state),
    Network("patch_tst", patch_tst, features(1, 64, 3), lambda m, x: m(x).prediction_outputs),
]
