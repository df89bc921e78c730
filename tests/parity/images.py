"""Decoding and preprocessing (data/images/image.hpp) against Pillow and torchvision, bit for bit."""
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision import transforms

PROBE = pathlib.Path(os.environ["FILO"]).parent / "image_probe"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
random = np.random.default_rng(7)
checks = 0


def probe(*arguments):
    done = subprocess.run([PROBE, *map(str, arguments)], capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"image_probe {arguments}: {done.stderr.decode()}")
    return done.stdout


def expect_equal(found, wanted, what):
    global checks
    checks += 1
    if found.shape != wanted.shape or not np.array_equal(found, wanted):
        difference = "" if found.shape != wanted.shape else f", {np.count_nonzero(found != wanted)} values differ"
        sys.exit(f"{what}: shapes {found.shape} and {wanted.shape}{difference}")


def photo(width, height):
    """Smooth colours with edges and noise: every part of a codec has something to do."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([128 + 100 * np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(3)], -1)
    base[height // 4: height // 2, width // 3: width // 2] = (250, 10, 60)
    return np.clip(base + random.normal(0, 8, base.shape), 0, 255).astype(np.uint8)


def pillow_rgb(path):
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def check_decode(path, wanted=None):
    wanted = pillow_rgb(path) if wanted is None else wanted
    bytes_ = probe("rgb", path)
    width, height = struct.unpack("<ii", bytes_[:8])
    expect_equal(np.frombuffer(bytes_[8:], np.uint8).reshape(height, width, 3), wanted, f"decode {path.name}")
    size = np.frombuffer(probe("size", path), np.int32)
    expect_equal(size, np.array([wanted.shape[1], wanted.shape[0]], np.int32), f"size of {path.name}")


def check_preprocess(path, image_size):
    transform = transforms.Compose([
        transforms.Resize((image_size, image_size), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(), transforms.Normalize(CLIP_MEAN, CLIP_STD)])
    wanted = transform(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).numpy()
    found = np.frombuffer(probe("clip", path, image_size), np.float32).reshape(3, image_size, image_size)
    expect_equal(found, wanted, f"preprocess {path.name} to {image_size}")


def check_mask(path, image_size):
    """FiLo's way: convert("L") > 0, * 255, torchvision's Resize (bilinear) and ToTensor, > 0.5."""
    mask = (np.array(Image.open(path).convert("L")) > 0).astype(np.uint8) * 255
    tensor = transforms.ToTensor()(transforms.Resize((image_size, image_size))(Image.fromarray(mask)))
    found = np.frombuffer(probe("mask", path, image_size), np.uint8).reshape(image_size, image_size)
    expect_equal(found, (tensor[0] > 0.5).numpy().astype(np.uint8), f"mask {path.name} at {image_size}")


def write_interlaced_png(path, pixels):
    """Adam7, which Pillow reads but does not write."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    raw = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        part = pixels[y0::dy, x0::dx]
        raw += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    height, width = pixels.shape[:2]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
                     + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def write_png16(path, samples):
    """16-bit RGB, which Pillow reads but does not write."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    height, width = samples.shape[:2]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def write_bmp(path, bits, pixels, top_down=False, masks=None):
    """Variants that Pillow reads but does not write: `pixels` are rows of raw integers."""
    height, width = pixels.shape
    rows = pixels if top_down else pixels[::-1]
    body = b""
    for row in rows:
        line = row.astype("<u2" if bits == 16 else "<u4").tobytes()
        if bits == 4:
            padded = np.concatenate([row, np.zeros(width % 2, row.dtype)]).astype(np.uint8)
            line = ((padded[0::2] << 4) | padded[1::2]).tobytes()
        body += line + b"\0" * (-len(line) % 4)
    palette = bytes(random.integers(0, 256, 64, np.uint8)) if bits == 4 else b""
    extra = struct.pack("<III", *masks) if masks else b""
    offset = 54 + len(extra) + len(palette)
    path.write_bytes(b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset)
                     + struct.pack("<IiiHHIIiiII", 40, width, -height if top_down else height, 1, bits, 3 if masks else 0,
                                   len(body), 2835, 2835, 16 if bits == 4 else 0, 0) + extra + palette + body)


def check_png_and_bmp(folder, pixels, rgb, grey):
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(pixels[:, :, 0]))
    grey_alpha = grey.copy()
    grey_alpha.putalpha(Image.fromarray(pixels[:, :, 1]))
    palette = rgb.quantize(200)
    images = {"rgb.png": rgb, "grey.png": grey, "alpha.png": alpha, "grey_alpha.png": grey_alpha, "palette.png": palette,
              "one_bit.png": grey.convert("1"), "palette4.png": rgb.quantize(13), "palette1.png": rgb.quantize(2),
              "rgb.bmp": rgb, "grey.bmp": grey, "one_bit.bmp": grey.convert("1"), "palette.bmp": palette, "alpha.bmp": alpha}
    for name, image in images.items():
        image.save(folder / name)
        check_decode(folder / name)
    palette.save(folder / "transparent_palette.png", transparency=3)
    check_decode(folder / "transparent_palette.png")
    rgb.save(folder / "transparent_color.png", transparency=tuple(int(v) for v in pixels[5, 5]))
    check_decode(folder / "transparent_color.png")
    write_interlaced_png(folder / "interlaced.png", pixels)
    check_decode(folder / "interlaced.png")
    write_png16(folder / "rgb16.png", random.integers(0, 65536, (31, 17, 3)))
    check_decode(folder / "rgb16.png")
    # Ours by decision: the high byte of 16-bit grey, where Pillow clips at 255.
    grey16 = random.integers(0, 65536, (40, 51)).astype(np.uint16)
    Image.fromarray(grey16).save(folder / "grey16.png")
    check_decode(folder / "grey16.png", np.repeat((grey16 >> 8).astype(np.uint8)[:, :, None], 3, 2))

    write_bmp(folder / "four_bit.bmp", 4, random.integers(0, 16, (11, 13)))
    write_bmp(folder / "top_down.bmp", 32, random.integers(0, 1 << 24, (11, 13)), top_down=True)
    write_bmp(folder / "rgb555.bmp", 16, random.integers(0, 1 << 15, (11, 13)))
    write_bmp(folder / "rgb565.bmp", 16, random.integers(0, 1 << 16, (11, 13)), masks=(0xf800, 0x07e0, 0x001f))
    write_bmp(folder / "masks.bmp", 32, random.integers(0, 1 << 24, (11, 13)), masks=(0xff0000, 0xff00, 0xff))
    for name in ("four_bit", "top_down", "rgb555", "rgb565", "masks"):
        check_decode(folder / f"{name}.bmp")


def write_tiff(path, pixels, order="<", tile=None, separate=False, extra=0):
    """Tiled files, planes and 16-bit RGB, which Pillow reads but does not write. `pixels`: [H, W, C] of uint8 or uint16."""
    height, width, channels = pixels.shape
    bits = pixels.dtype.itemsize * 8
    data = pixels.astype(pixels.dtype.newbyteorder(order))
    planes = [data[:, :, k:k + 1] for k in range(channels)] if separate else [data]
    if tile:
        chunks = []
        for plane in planes:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            chunks += [padded[y:y + tile, x:x + tile].tobytes() for y in range(0, padded.shape[0], tile) for x in range(0, padded.shape[1], tile)]
    else:
        rows = 7
        chunks = [plane[y:y + rows].tobytes() for plane in planes for y in range(0, height, rows)]
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [2 if channels >= 3 else 1], 277: [channels],
            284: [2 if separate else 1]}
    if extra:
        tags[338] = [extra]
    offsets = list(np.cumsum([8] + [len(chunk) for chunk in chunks])[:-1])
    sizes = [len(chunk) for chunk in chunks]
    tags.update({322: [tile], 323: [tile], 324: offsets, 325: sizes} if tile else {273: offsets, 278: [7], 279: sizes})
    body = b"".join(chunks)
    directory = 8 + len(body)
    after = directory + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *(int(value) for value in values))
        entries += struct.pack(f"{order}HHI", tag, 4, len(values))
        entries += packed if len(packed) == 4 else struct.pack(f"{order}I", after + len(more))
        more += packed if len(packed) > 4 else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, directory)
    path.write_bytes(head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + more)


def check_tiff(folder, pixels, rgb, grey):
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(pixels[:, :, 0]))
    for compression in (None, "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "lzma", "zstd"):
        for name, image in (("rgb", rgb), ("grey", grey), ("alpha", alpha), ("palette", rgb.quantize(200))):
            path = folder / f"{name}_{compression}.tif"
            image.save(path, compression=compression)
            check_decode(path)
    for compression in (None, "group3", "group4"):
        grey.convert("1").save(folder / f"one_bit_{compression}.tif", compression=compression)
        check_decode(folder / f"one_bit_{compression}.tif")
    rgb.save(folder / "jpeg.tif", compression="jpeg", quality=88)
    check_decode(folder / "jpeg.tif")
    grey.save(folder / "jpeg_grey.tif", compression="jpeg", quality=88)
    check_decode(folder / "jpeg_grey.tif")
    rgb.save(folder / "big.tif", big_tiff=True)
    check_decode(folder / "big.tif")
    rgb.save(folder / "pages.tif", save_all=True, append_images=[Image.fromarray(255 - pixels)])
    check_decode(folder / "pages.tif")
    for orientation in range(1, 9):
        rgb.save(folder / f"orientation{orientation}.tif", tiffinfo={274: orientation})
        check_decode(folder / f"orientation{orientation}.tif")
    for order in "<>":
        for tile in (None, 16, 64):
            for separate in (False, True):
                path = folder / f"made{ord(order)}_{tile}_{separate}.tif"
                write_tiff(path, pixels, order, tile, separate)
                check_decode(path, pixels)
                wide = random.integers(0, 65536, (31, 17, 3)).astype(np.uint16)
                write_tiff(path, wide, order, tile, separate)
                check_decode(path, (wide >> 8).astype(np.uint8))
    # Ours by decision: the high byte of 16-bit grey.
    check_grey16(folder)
    grey16 = random.integers(0, 65536, (40, 51)).astype(np.uint16)
    for compression in (None, "tiff_lzw"):
        Image.fromarray(grey16).save(folder / "grey16.tif", compression=compression)
        check_decode(folder / "grey16.tif", np.repeat((grey16 >> 8).astype(np.uint8)[:, :, None], 3, 2))


def check_grey16(folder):
    """A range of 16-bit grey, against NumPy; colours keep their high byte."""
    grey16 = random.integers(0, 65536, (40, 51)).astype(np.uint16)
    grey16[:2, :5] = [[0, 1, 99, 100, 101], [4094, 4095, 4096, 65534, 65535]]
    for name in ("range.png", "range.tif"):
        Image.fromarray(grey16).save(folder / name)
        for low, high in ((0, 4095), (100, 60000), (0, 65535), (5, 6), (100, 4096)):
            # Halves are rounded up.
            wanted = np.floor(np.clip((grey16.astype(np.float64) - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
            found = np.frombuffer(probe("rgb", folder / name, f"{low}:{high}")[8:], np.uint8).reshape(40, 51, 3)
            expect_equal(found, np.repeat(wanted[:, :, None], 3, 2), f"{name} from {low} to {high}")
    colors = random.integers(0, 65536, (31, 17, 3)).astype(np.uint16)
    write_png16(folder / "range_rgb.png", colors)
    write_tiff(folder / "range_rgb.tif", colors)
    for name in ("range_rgb.png", "range_rgb.tif"):
        found = np.frombuffer(probe("rgb", folder / name, "0:4095")[8:], np.uint8).reshape(colors.shape)
        expect_equal(found, (colors >> 8).astype(np.uint8), f"{name}, of colours")


def check_damaged_tiff(folder, pixels):
    """Compressed files, cut and with bytes flipped: an error that names the file or an image, never a crash; cut, always an error."""
    rgb = Image.fromarray(pixels[:40, :50])
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        path = folder / "whole.tif"
        (rgb.convert("1") if compression == "group4" else rgb).save(path, compression=compression)
        whole = path.read_bytes()
        check_decode(path)
        broken = folder / "broken.tif"
        for round_ in range(40):
            if round_ < 20:
                damaged = whole[:int(len(whole) * round_ / 20)]
            else:
                flipped = bytearray(whole)
                for at in random.integers(4, len(whole), 3):
                    flipped[at] ^= 1 << int(random.integers(0, 8))
                damaged = bytes(flipped)
            broken.write_bytes(damaged)
            done = subprocess.run([PROBE, "rgb", broken], capture_output=True, check=False)
            if done.returncode not in (0, 1) or (done.returncode == 1 and b"broken.tif" not in done.stderr):
                sys.exit(f"{compression}, damage {round_}: exit code {done.returncode}: {done.stderr.decode()}")
            if round_ < 20 and done.returncode == 0:
                sys.exit(f"{compression}: {len(damaged)} of {len(whole)} bytes were taken for an image")


def check_jpeg_and_orientation(folder, rgb, grey):
    for name, image, options in (("420", rgb, dict(subsampling=2)), ("422", rgb, dict(subsampling=1)), ("444", rgb, dict(subsampling=0)),
                                 ("progressive", rgb, dict(progressive=True)), ("grey", grey, {}), ("cmyk", rgb.convert("CMYK"), {}),
                                 ("rgb_kept", rgb, dict(keep_rgb=True))):
        image.save(folder / f"{name}.jpg", quality=88, **options)
        check_decode(folder / f"{name}.jpg")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png"):
            rgb.save(folder / f"orientation{orientation}.{suffix}", exif=exif)
            check_decode(folder / f"orientation{orientation}.{suffix}")


def check_masks(folder):
    blobs = (photo(301, 190)[:, :, 0] > 200).astype(np.uint8)
    Image.fromarray(blobs * 255).save(folder / "mask.png")
    Image.fromarray(blobs * 2).save(folder / "mask_of_twos.png")
    Image.fromarray(blobs * 255).convert("1").save(folder / "mask_one_bit.png")
    Image.fromarray(blobs * 255).save(folder / "mask.tif", compression="tiff_lzw")
    Image.fromarray(blobs * 255).convert("1").save(folder / "mask_one_bit.tif", compression="group4")
    for name in ("mask.png", "mask_of_twos.png", "mask_one_bit.png", "mask.tif", "mask_one_bit.tif"):
        for image_size in (14, 190, 280, 518):
            check_mask(folder / name, image_size)
    for name in ("mask16.png", "mask16.tif"):
        Image.fromarray(blobs.astype(np.uint16)).save(folder / name)
        expect_equal(np.frombuffer(probe("mask", folder / name, 280), np.uint8),
                     np.frombuffer(probe("mask", folder / "mask.png", 280), np.uint8), f"16-bit label mask {name}")


def main():
    folder = pathlib.Path(tempfile.mkdtemp())
    pixels = photo(93, 61)
    rgb, grey = Image.fromarray(pixels), Image.fromarray(pixels).convert("L")
    check_png_and_bmp(folder, pixels, rgb, grey)
    check_jpeg_and_orientation(folder, rgb, grey)
    check_tiff(folder, pixels, rgb, grey)
    check_damaged_tiff(folder, pixels)

    Image.fromarray(photo(640, 427)).save(folder / "large.jpg", quality=92)
    Image.fromarray(photo(280, 280)).save(folder / "square.png")
    for name in ("rgb.png", "grey.png", "large.jpg", "square.png", "orientation6.jpg", "rgb_tiff_lzw.tif"):
        for image_size in (1, 28, 280, 518):
            check_preprocess(folder / name, image_size)

    check_masks(folder)

    probe("png", folder / "rgb.png", folder / "again.png")
    expect_equal(pillow_rgb(folder / "again.png"), pixels, "write_png")
    print(f"{checks} comparisons equal bit for bit")


if __name__ == "__main__":
    main()
