//! Where arguments, the returned value and the stack pointer lie in the registers of an interrupted program.
//!
//! Offsets into the kernel's `struct pt_regs`, a fixed interface of each architecture (`asm/ptrace.h`).

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::Fetch;

    /// At a function's first instruction the return address is on top of the stack.
    #[must_use]
    pub fn caller() -> Fetch {
        Fetch { offset: vec![STACK, 0], size: 8, user: true, ..Fetch::default() }
    }
    /// rdi, rsi, rdx, rcx, r8, r9.
    pub const ARGS: &[i32] = &[112, 104, 96, 88, 72, 64];
    /// rax.
    pub const RET: i32 = 80;
    /// rsp.
    pub const STACK: i32 = 152;
    /// rip.
    pub const IP: i32 = 128;
    /// Offset of a register that a static probe's note names, by the name of its eight bytes or a part of it.
    #[must_use]
    pub fn register(name: &str) -> Option<i32> {
        let full = match name {
            "rax" | "eax" | "ax" | "al" => 80,
            "rbx" | "ebx" | "bx" | "bl" => 40,
            "rcx" | "ecx" | "cx" | "cl" => 88,
            "rdx" | "edx" | "dx" | "dl" => 96,
            "rsi" | "esi" | "si" | "sil" => 104,
            "rdi" | "edi" | "di" | "dil" => 112,
            "rbp" | "ebp" | "bp" | "bpl" => 32,
            "rsp" | "esp" | "sp" | "spl" => 152,
            other => {
                let number = other.strip_prefix('r')?.trim_end_matches(['d', 'w', 'b']);
                match number {
                    "8" => 72,
                    "9" => 64,
                    "10" => 56,
                    "11" => 48,
                    "12" => 24,
                    "13" => 16,
                    "14" => 8,
                    "15" => 0,
                    _ => return None,
                }
            }
        };
        Some(full)
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::Fetch;

    /// At a function's first instruction the return address is in x30.
    #[must_use]
    pub fn caller() -> Fetch {
        Fetch::context(240, 8, false)
    }
    /// x0 to x7.
    pub const ARGS: &[i32] = &[0, 8, 16, 24, 32, 40, 48, 56];
    /// x0.
    pub const RET: i32 = 0;
    /// sp.
    pub const STACK: i32 = 248;
    /// pc.
    pub const IP: i32 = 256;
    /// Offset of a register that a static probe's note names.
    #[must_use]
    pub fn register(name: &str) -> Option<i32> {
        if name == "sp" {
            return Some(STACK);
        }
        let number: i32 = name.strip_prefix(['x', 'w'])?.parse().ok()?;
        (0..31).contains(&number).then_some(number * 8)
    }
}

use super::fetch::Fetch;
pub use arch::{ARGS, IP, RET, STACK, caller, register};
