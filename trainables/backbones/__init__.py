"""Stock timm backbones, the embedded one, and how branches are put into them."""
