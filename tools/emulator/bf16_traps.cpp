// SPDX-License-Identifier: Apache-2.0
/// Preloaded by tools/run_emulated.py into programs on an emulated processor that has AVX-512 but no BF16:
/// the one instruction of that set which the kernels use, vdpbf16ps on 512 bits, raises an invalid opcode
/// there, and so do the CPUID instructions of the program, which were overwritten by UD2. Both are carried
/// out here.
#include <cpuid.h>
#include <immintrin.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf real_cpuid(uint32_t leaf, uint32_t subleaf) {
  Leaf l;
  __cpuid_count(leaf, subleaf, l.eax, l.ebx, l.ecx, l.edx);
  return l;
}

[[noreturn]] void give_up(const char* why) {
  static_cast<void>(!::write(STDERR_FILENO, why, std::strlen(why)));
  ::_exit(86);
}

/// Where the kernel saved the 512-bit registers of the interrupted program (XSAVE, not compacted).
class SavedRegisters {
 public:
  explicit SavedRegisters(ucontext_t* context)
      : area_(reinterpret_cast<uint8_t*>(context->uc_mcontext.fpregs)), sizes_(sizes()) {
    uint64_t present = 0;
    std::memcpy(&present, area_ + kHeader, sizeof present);
    // What is not present is zero, whatever its bytes are.
    if ((present & 0x02) == 0) std::memset(area_ + 160, 0, 256);
    const uint64_t bits[] = {0x04, 0x40, 0x80};
    for (int i = 0; i < 3; ++i) {
      if ((present & bits[i]) == 0) std::memset(area_ + sizes_[i].ebx, 0, sizes_[i].eax);
    }
    present |= 0xc6;
    std::memcpy(area_ + kHeader, &present, sizeof present);
  }

  void read(unsigned number, void* into) const { each_part(number, static_cast<uint8_t*>(into), true); }
  void write(unsigned number, void* from) { each_part(number, static_cast<uint8_t*>(from), false); }

 private:
  static constexpr size_t kHeader = 512;

  /// ebx: place of the upper halves, of the upper quarters, of registers 16 to 31; eax: bytes.
  static const Leaf* sizes() {
    static const Leaf all[] = {real_cpuid(0xd, 2), real_cpuid(0xd, 6), real_cpuid(0xd, 7)};
    return all;
  }

  void each_part(unsigned number, uint8_t* bytes, bool reading) const {
    const auto copy = [&](uint8_t* saved, size_t from, size_t size) {
      std::memcpy(reading ? bytes + from : saved, reading ? saved : bytes + from, size);
    };
    if (number >= 16) return copy(area_ + sizes_[2].ebx + 64 * (number - 16), 0, 64);
    copy(area_ + 160 + 16 * number, 0, 16);
    copy(area_ + sizes_[0].ebx + 16 * number, 16, 16);
    copy(area_ + sizes_[1].ebx + 32 * number, 32, 32);
  }

  uint8_t* area_;
  const Leaf* sizes_;
};

/// The general registers in the order of their encoding.
constexpr int kGeneral[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/// EVEX.512.F3.0F38.W0 52 /r without masking.
struct DotProduct {
  unsigned target = 0;
  unsigned first = 0;
  int second = -1;                  // a register, or
  const uint8_t* memory = nullptr;  // what is in memory,
  bool broadcast = false;           // 4 bytes of it or 64
  size_t length = 0;                // of the instruction
};

bool decode(const uint8_t* at, const greg_t* registers, DotProduct& result) {
  if (at[0] != 0x62 || (at[1] & 0x0f) != 2 || (at[2] & 0x87) != 0x06 || at[4] != 0x52) return false;
  if ((at[3] & 0xe7) != 0x40) return false;  // 512 bits, no mask
  const unsigned extend_x = (at[1] & 0x40) == 0 ? 8 : 0;
  const unsigned extend_b = (at[1] & 0x20) == 0 ? 8 : 0;
  result.broadcast = (at[3] & 0x10) != 0;
  result.target = ((at[1] & 0x10) == 0 ? 16 : 0) + ((at[1] & 0x80) == 0 ? 8 : 0) + ((at[5] >> 3) & 7U);
  result.first = ((at[3] & 0x08) == 0 ? 16 : 0) + (~(at[2] >> 3) & 15U);
  const unsigned mode = at[5] >> 6;
  const unsigned low = at[5] & 7U;
  if (mode == 3) {
    result.second = static_cast<int>(2 * extend_x + extend_b + low);
    result.length = 6;
    return !result.broadcast;
  }
  size_t next = 6;
  int64_t address = 0;
  const auto displacement = [&](size_t bytes) {
    int64_t value = 0;
    if (bytes == 1) value = static_cast<int8_t>(at[next]) * (result.broadcast ? 4 : 64);
    if (bytes == 4) {
      int32_t wide = 0;
      std::memcpy(&wide, at + next, sizeof wide);
      value = wide;
    }
    next += bytes;
    return value;
  };
  const size_t bytes = mode == 0 ? 0 : mode == 1 ? 1 : 4;
  if (low == 4) {
    const uint8_t sib = at[next++];
    const unsigned index = ((sib >> 3) & 7U) + extend_x;
    const unsigned base = (sib & 7U) + extend_b;
    if (index != 4) address += registers[kGeneral[index]] * (int64_t{1} << (sib >> 6));
    const bool no_base = mode == 0 && (sib & 7U) == 5;
    if (!no_base) address += registers[kGeneral[base]];
    address += displacement(no_base ? 4 : bytes);
  } else if (mode == 0 && low == 5) {
    address = displacement(4);
    address += reinterpret_cast<int64_t>(at) + static_cast<int64_t>(next);
  } else {
    address = registers[kGeneral[low + extend_b]] + displacement(bytes);
  }
  result.memory = reinterpret_cast<const uint8_t*>(address);
  result.length = next;
  return true;
}

/// Two fused multiply-adds in each lane, the odd element first; subnormal operands and results are zero.
[[gnu::target("avx512f")]] void carry_out(const DotProduct& dot, SavedRegisters& registers) {
  __m512 sum;
  __m512i a;
  __m512i b;
  registers.read(dot.target, &sum);
  registers.read(dot.first, &a);
  if (dot.second >= 0) {
    registers.read(static_cast<unsigned>(dot.second), &b);
  } else if (dot.broadcast) {
    b = _mm512_set1_epi32(*reinterpret_cast<const int*>(dot.memory));
  } else {
    b = _mm512_loadu_si512(dot.memory);
  }
  const unsigned modes = _mm_getcsr();
  _mm_setcsr(modes | 0x8040);
  const __m512i odd = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
  sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a, odd)),
                        _mm512_castsi512_ps(_mm512_and_si512(b, odd)), sum);
  sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)),
                        _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), sum);
  asm volatile("" : "+v"(sum));  // before the modes change back
  _mm_setcsr(modes);
  registers.write(dot.target, &sum);
}

void say_cpuid(greg_t* registers) {
  const auto leaf = static_cast<uint32_t>(registers[REG_RAX]);
  const auto subleaf = static_cast<uint32_t>(registers[REG_RCX]);
  Leaf l = real_cpuid(leaf, subleaf);
  if (leaf == 7 && subleaf == 1) l.eax |= 1U << 5;
  registers[REG_RAX] = l.eax;
  registers[REG_RBX] = l.ebx;
  registers[REG_RCX] = l.ecx;
  registers[REG_RDX] = l.edx;
}

void on_invalid_opcode(int, siginfo_t*, void* opaque) {
  auto* context = static_cast<ucontext_t*>(opaque);
  greg_t* registers = context->uc_mcontext.gregs;
  const auto* at = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  DotProduct dot;
  if (at[0] == 0x0f && at[1] == 0x0b) {
    say_cpuid(registers);
    registers[REG_RIP] += 2;
  } else if (decode(at, registers, dot)) {
    SavedRegisters saved(context);
    carry_out(dot, saved);
    registers[REG_RIP] += static_cast<greg_t>(dot.length);
  } else {
    give_up("bf16_traps: an instruction that neither the processor nor this library knows\n");
  }
}

[[gnu::constructor]] void take_over() {
  struct sigaction action = {};
  action.sa_sigaction = on_invalid_opcode;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (::sigaction(SIGILL, &action, nullptr) != 0) give_up("bf16_traps: no handler for SIGILL\n");
}

}  // namespace
