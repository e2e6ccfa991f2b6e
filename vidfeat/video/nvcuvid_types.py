"""The structures of NVIDIA's video decoding interface, as its driver's library takes them.

Layouts and constants are those of the Video Codec SDK's ``nvcuvid.h`` and ``cuviddec.h`` (version
9.0, which later drivers keep); fields that are not used are reserved space here.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_longlong,
    c_short,
    c_ubyte,
    c_uint,
    c_ulong,
    c_ulonglong,
    c_void_p,
)


class Rect(Structure):
    """A rectangle within CUVIDEOFORMAT."""

    _fields_ = [(name, c_int) for name in ("left", "top", "right", "bottom")]


class ShortRect(Structure):
    """A rectangle within CUVIDDECODECREATEINFO."""

    _fields_ = [(name, c_short) for name in ("left", "top", "right", "bottom")]


class Format(Structure):
    """The SDK's CUVIDEOFORMAT."""

    _fields_ = [
        ("codec", c_int),
        ("frame_rate", c_uint * 2),
        ("progressive_sequence", c_ubyte),
        ("bit_depth_luma_minus8", c_ubyte),
        ("bit_depth_chroma_minus8", c_ubyte),
        ("min_num_decode_surfaces", c_ubyte),
        ("coded_width", c_uint),
        ("coded_height", c_uint),
        ("display_area", Rect),
        ("chroma_format", c_int),
        ("bitrate", c_uint),
        ("display_aspect_ratio", c_int * 2),
        ("video_signal_description", c_ubyte * 4),
        ("seqhdr_data_length", c_uint),
    ]


class Capabilities(Structure):
    """The SDK's CUVIDDECODECAPS."""

    _fields_ = [
        ("codec", c_int),
        ("chroma_format", c_int),
        ("bit_depth_minus8", c_uint),
        ("reserved1", c_uint * 3),
        ("is_supported", c_ubyte),
        ("reserved2", c_ubyte * 3),
        ("max_width", c_uint),
        ("max_height", c_uint),
        ("max_macroblocks", c_uint),
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("reserved3", c_uint * 11),
    ]


class CreateInfo(Structure):
    """The SDK's CUVIDDECODECREATEINFO."""

    _fields_ = [
        ("width", c_ulong),
        ("height", c_ulong),
        ("num_decode_surfaces", c_ulong),
        ("codec", c_int),
        ("chroma_format", c_int),
        ("creation_flags", c_ulong),
        ("bit_depth_minus8", c_ulong),
        ("intra_decode_only", c_ulong),
        ("max_width", c_ulong),
        ("max_height", c_ulong),
        ("reserved1", c_ulong),
        ("display_area", ShortRect),
        ("output_format", c_int),
        ("deinterlace_mode", c_int),
        ("target_width", c_ulong),
        ("target_height", c_ulong),
        ("num_output_surfaces", c_ulong),
        ("lock", c_void_p),
        ("target_rect", ShortRect),
        ("reserved2", c_ulong * 5),
    ]


class ProcParams(Structure):
    """The SDK's CUVIDPROCPARAMS."""

    _fields_ = [
        ("progressive_frame", c_int),
        ("second_field", c_int),
        ("top_field_first", c_int),
        ("unpaired_field", c_int),
        ("reserved_flags", c_uint),
        ("reserved_zero", c_uint),
        ("raw_input_dptr", c_ulonglong),
        ("raw_input_pitch", c_uint),
        ("raw_input_format", c_uint),
        ("raw_output_dptr", c_ulonglong),
        ("raw_output_pitch", c_uint),
        ("reserved1", c_uint),
        ("output_stream", c_void_p),
        ("reserved", c_uint * 46),
        ("reserved2", c_void_p * 2),
    ]


class Status(Structure):
    """The SDK's CUVIDGETDECODESTATUS."""

    _fields_ = [("status", c_int), ("reserved", c_uint * 31), ("reserved2", c_void_p * 8)]


class Shown(Structure):
    """The SDK's CUVIDPARSERDISPINFO."""

    _fields_ = [
        ("picture_index", c_int),
        ("progressive_frame", c_int),
        ("top_field_first", c_int),
        ("repeat_first_field", c_int),
        ("timestamp", c_longlong),
    ]


class Packet(Structure):
    """The SDK's CUVIDSOURCEDATAPACKET."""

    _fields_ = [
        ("flags", c_ulong),
        ("payload_size", c_ulong),
        ("payload", c_char_p),
        ("timestamp", c_longlong),
    ]


OnSequence = CFUNCTYPE(c_int, c_void_p, POINTER(Format))
OnDecode = CFUNCTYPE(c_int, c_void_p, c_void_p)
OnShow = CFUNCTYPE(c_int, c_void_p, POINTER(Shown))


class ParserParams(Structure):
    """The SDK's CUVIDPARSERPARAMS."""

    _fields_ = [
        ("codec", c_int),
        ("max_num_decode_surfaces", c_uint),
        ("clock_rate", c_uint),
        ("error_threshold", c_uint),
        ("max_display_delay", c_uint),
        ("reserved1", c_uint * 5),
        ("user_data", c_void_p),
        ("on_sequence", OnSequence),
        ("on_decode", OnDecode),
        ("on_show", OnShow),
        ("reserved2", c_void_p * 7),
        ("extra_info", c_void_p),
    ]
