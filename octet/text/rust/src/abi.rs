// SPDX-License-Identifier: Apache-2.0
//! The C ABI, declared for C++ in octet/text/abi.h. Every function returns a status (0, or a `Kind`), puts its result
//! or its error message into `reply`, and never unwinds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Once};

use crate::chat_template::ChatTemplates;
use crate::fault::{Fault, Kind};
use crate::incremental::IncrementalDecoder;
use crate::tokenizer::{self, FolderTokenizer};

/// Bytes borrowed from the caller for the time of the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

/// Bytes owned by this library until `octet_text_free`.
#[repr(C)]
pub struct Reply {
    data: *mut u8,
    size: usize,
}

impl Slice {
    /// # Safety
    /// `data` points to `size` readable bytes, or `size` is 0.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data, self.size) }
    }

    unsafe fn text<'a>(self) -> Result<&'a str, Fault> {
        // SAFETY: the caller's promise.
        std::str::from_utf8(unsafe { self.bytes() }).map_err(|error| {
            Fault::argument(format!("the text is not UTF-8: invalid byte at offset {}", error.valid_up_to()))
        })
    }

    unsafe fn path<'a>(self) -> &'a Path {
        // SAFETY: the caller's promise.
        Path::new(OsStr::from_bytes(unsafe { self.bytes() }))
    }
}

fn set(reply: *mut Reply, bytes: Vec<u8>) {
    let boxed = bytes.into_boxed_slice();
    let size = boxed.len();
    // SAFETY: `reply` is the caller's own, valid for writing.
    unsafe { reply.write(Reply { data: Box::into_raw(boxed).cast(), size }) };
}

/// Runs `work`, turning its fault or panic into a status and a message.
fn guarded(reply: *mut Reply, work: impl FnOnce() -> Result<Vec<u8>, Fault>) -> i32 {
    static QUIET: Once = Once::new();
    // A library prints nothing: the panic comes back as an error instead.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
        Err(Fault {
            kind: Kind::Internal,
            message: format!("internal error in the text library: {}", words.unwrap_or_default()),
        })
    });
    match outcome {
        Ok(bytes) => {
            set(reply, bytes);
            0
        }
        Err(fault) => {
            set(reply, fault.message.into_bytes());
            fault.kind as i32
        }
    }
}

fn id_bytes(ids: &[i32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_ne_bytes()).collect()
}

fn optional_id(id: Option<u32>) -> Vec<u8> {
    id.map_or(Vec::new(), |id| id_bytes(&[id as i32]))
}

/// # Safety
/// `reply` came from this library and is not used again.
#[no_mangle]
pub unsafe extern "C" fn octet_text_free(reply: Reply) {
    if !reply.data.is_null() {
        // SAFETY: made by `set` from a boxed slice of this size.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(reply.data, reply.size)) });
    }
}

/// # Safety
/// As all functions here: slices are readable, pointers are valid, handles came from this library.
#[no_mangle]
pub unsafe extern "C" fn octet_text_tokenizer_present(folder: Slice) -> bool {
    // SAFETY: the caller's promise.
    tokenizer::present(unsafe { folder.path() })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn octet_text_tokenizer_open(
    folder: Slice,
    out: *mut *const FolderTokenizer,
    reply: *mut Reply,
) -> i32 {
    guarded(reply, || {
        // SAFETY: the caller's promise.
        let opened = FolderTokenizer::open(unsafe { folder.path() })?;
        // SAFETY: the caller's promise.
        unsafe { out.write(Arc::into_raw(Arc::new(opened))) };
        Ok(Vec::new())
    })
}

/// # Safety
/// See above; the handle is not used again.
#[no_mangle]
pub unsafe extern "C" fn octet_text_tokenizer_close(handle: *const FolderTokenizer) {
    // SAFETY: made by `octet_text_tokenizer_open`.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Arc::from_raw(handle) })));
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn octet_text_encode(
    handle: &FolderTokenizer,
    text: Slice,
    add_special: bool,
    parse_special: bool,
    reply: *mut Reply,
) -> i32 {
    // SAFETY: the caller's promise.
    guarded(reply, || Ok(id_bytes(&handle.encode(unsafe { text.text() }?, add_special, parse_special)?)))
}

/// # Safety
/// See above; `ids` points to `count` ids.
#[no_mangle]
pub unsafe extern "C" fn octet_text_decode(
    handle: &FolderTokenizer,
    ids: *const i32,
    count: usize,
    skip_special: bool,
    reply: *mut Reply,
) -> i32 {
    guarded(reply, || {
        // SAFETY: the caller's promise.
        let ids = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(ids, count) } };
        Ok(handle.decode(ids, skip_special)?.into_bytes())
    })
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn octet_text_piece(handle: &FolderTokenizer, id: i32, reply: *mut Reply) -> i32 {
    guarded(reply, || Ok(handle.piece(id)?.into_bytes()))
}

/// # Safety
/// See above. The reply is empty where there is no such token.
#[no_mangle]
pub unsafe extern "C" fn octet_text_token_to_id(handle: &FolderTokenizer, token: Slice, reply: *mut Reply) -> i32 {
    // SAFETY: the caller's promise.
    guarded(reply, || Ok(optional_id(handle.token_to_id(unsafe { token.text() }?))))
}

/// # Safety
/// See above. The reply holds the ids of BOS and EOS, -1 for one that does not exist.
#[no_mangle]
pub unsafe extern "C" fn octet_text_marks(handle: &FolderTokenizer, reply: *mut Reply) -> i32 {
    let id = |mark: Option<u32>| mark.map_or(-1, |id| id as i32);
    guarded(reply, || Ok(id_bytes(&[id(handle.bos()), id(handle.eos())])))
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn octet_text_vocab_size(handle: &FolderTokenizer) -> i64 {
    handle.size()
}

/// # Safety
/// See above. The decoder keeps the tokenizer alive.
#[no_mangle]
pub unsafe extern "C" fn octet_text_decoder_open(
    handle: *const FolderTokenizer,
    skip_special: bool,
) -> *mut IncrementalDecoder {
    // SAFETY: the handle is an `Arc` made by `octet_text_tokenizer_open`, of which this takes a further share.
    let tokenizer = unsafe {
        Arc::increment_strong_count(handle);
        Arc::from_raw(handle)
    };
    Box::into_raw(Box::new(IncrementalDecoder::new(tokenizer, skip_special)))
}

/// # Safety
/// See above; the decoder is not used again.
#[no_mangle]
pub unsafe extern "C" fn octet_text_decoder_close(decoder: *mut IncrementalDecoder) {
    // SAFETY: made by `octet_text_decoder_open`.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(decoder) })));
}

/// # Safety
/// See above; no other thread uses the decoder.
#[no_mangle]
pub unsafe extern "C" fn octet_text_decoder_push(decoder: &mut IncrementalDecoder, id: i32, reply: *mut Reply) -> i32 {
    guarded(reply, || Ok(decoder.push(id)?.into_bytes()))
}

/// # Safety
/// See above; no other thread uses the decoder.
#[no_mangle]
pub unsafe extern "C" fn octet_text_decoder_finish(decoder: &mut IncrementalDecoder, reply: *mut Reply) -> i32 {
    guarded(reply, || Ok(decoder.finish()?.into_bytes()))
}

/// # Safety
/// See above. `out` becomes null where the folder has no chat template.
#[no_mangle]
pub unsafe extern "C" fn octet_text_template_open(
    folder: Slice,
    out: *mut *mut ChatTemplates,
    reply: *mut Reply,
) -> i32 {
    guarded(reply, || {
        // SAFETY: the caller's promise.
        let opened = ChatTemplates::open(unsafe { folder.path() })?;
        let handle = opened.map_or(std::ptr::null_mut(), |templates| Box::into_raw(Box::new(templates)));
        // SAFETY: the caller's promise.
        unsafe { out.write(handle) };
        Ok(Vec::new())
    })
}

/// # Safety
/// See above; the handle is not used again.
#[no_mangle]
pub unsafe extern "C" fn octet_text_template_close(handle: *mut ChatTemplates) {
    // SAFETY: made by `octet_text_template_open`.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle) })));
}

/// # Safety
/// See above.
#[no_mangle]
pub unsafe extern "C" fn octet_text_render(handle: &ChatTemplates, request: Slice, reply: *mut Reply) -> i32 {
    guarded(reply, || {
        // SAFETY: the caller's promise.
        let request =
            unsafe { request.text() }.map_err(|fault| Fault::argument(format!("chat request: {}", fault.message)))?;
        Ok(handle.render(request)?.into_bytes())
    })
}
