//go:build gc && !purego && !tund_xcrypto

#include "textflag.h"

// AES-256-GCM (NIST SP 800-38D) in VAES and VPCLMULQDQ on registers of 512 bits.
//
// GHASH multiplies in a field whose bits GCM numbers from the other end. Reversing the bytes of a
// block and multiplying the key by x once makes that POLYVAL (RFC 8452, appendix A): products need
// no shift, and their reduction is that of Montgomery, modulo x^128 + x^127 + x^126 + x^121 + 1.
//
// One register holds four blocks, and a step handles four registers. Each lane hashes every fourth
// block, so that a step multiplies by H^16, H^12, H^8 and H^4, the same in all lanes. Only the last
// step gives each block the power that belongs to its distance from the end, which adds the lanes
// up; and as it counts from the end, the message may end with any block. While a step encrypts, the
// blocks of the step before it are hashed: the two have no data in common.
//
// Registers:
//
//	Z0-Z3     counters, then what AES has made of them, then the message
//	Z4-Z7     ciphertext to be hashed, with the bytes of each block reversed
//	Z8 Z9 Z10 the sum of the products so far: words 0 and 1, words 1 and 2, words 2 and 3. Z10 is
//	          also the hash between two steps
//	Z11 Z12   temporary; Z12 is a power of H
//	Z13       the order that reverses the bytes of a block
//	Z14       the next four counters, with their bytes reversed
//	X15       block 1, for the tag
//	Z16-Z30   the round keys, the same in all lanes
//	Z31       the polynomial's word that is neither 0 nor 1
//	K1 K2     the bytes of the last vector of this step, and of the message
//	DI SI     dst, src
//	BX        the key: H^20 to H^1, then the round keys
//	CX        the length of the message
//	DX        where the tag goes
//	R9        the nonce

DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

DATA poly<>+0(SB)/8, $0xc200000000000000
DATA poly<>+8(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $16

// The polynomial without x^128.
DATA field<>+0(SB)/8, $1
DATA field<>+8(SB)/8, $0xc200000000000000
GLOBL field<>(SB), RODATA|NOPTR, $16

// What the counters of the first four blocks are ahead of block 1's.
DATA first<>+0(SB)/8, $1
DATA first<>+8(SB)/8, $0
DATA first<>+16(SB)/8, $2
DATA first<>+24(SB)/8, $0
DATA first<>+32(SB)/8, $3
DATA first<>+40(SB)/8, $0
DATA first<>+48(SB)/8, $4
DATA first<>+56(SB)/8, $0
GLOBL first<>(SB), RODATA|NOPTR, $64

DATA next<>+0(SB)/8, $4
DATA next<>+8(SB)/8, $0
DATA next<>+16(SB)/8, $4
DATA next<>+24(SB)/8, $0
DATA next<>+32(SB)/8, $4
DATA next<>+40(SB)/8, $0
DATA next<>+48(SB)/8, $4
DATA next<>+56(SB)/8, $0
GLOBL next<>(SB), RODATA|NOPTR, $64

// COUNT begins the encryption of the next four counters.
#define COUNT(z) \
	VPSHUFB Z13, Z14, z;          \
	VPADDD  next<>(SB), Z14, Z14; \
	VPXORQ  Z16, z, z

// ROUND0 to ROUND4 are one round of AES for block 1 and as many registers of counters; the key is
// k, which is called x where it has 128 bits.
#define ROUND0(k, x) \
	VAESENC x, X15, X15

#define ROUND1(k, x) \
	VAESENC k, Z0, Z0;   \
	VAESENC x, X15, X15

#define ROUND2(k, x) \
	VAESENC k, Z0, Z0;   \
	VAESENC k, Z1, Z1;   \
	VAESENC x, X15, X15

#define ROUND3(k, x) \
	VAESENC k, Z0, Z0;   \
	VAESENC k, Z1, Z1;   \
	VAESENC k, Z2, Z2;   \
	VAESENC x, X15, X15

#define ROUND4(k, x) \
	VAESENC k, Z0, Z0;   \
	VAESENC k, Z1, Z1;   \
	VAESENC k, Z2, Z2;   \
	VAESENC k, Z3, Z3;   \
	VAESENC x, X15, X15

#define ROUNDS(round) \
	round(Z17, X17); \
	round(Z18, X18); \
	round(Z19, X19); \
	round(Z20, X20); \
	round(Z21, X21); \
	round(Z22, X22); \
	round(Z23, X23); \
	round(Z24, X24); \
	round(Z25, X25); \
	round(Z26, X26); \
	round(Z27, X27); \
	round(Z28, X28); \
	round(Z29, X29)

#define ROUND(k) \
	VAESENC k, Z0, Z0; \
	VAESENC k, Z1, Z1; \
	VAESENC k, Z2, Z2; \
	VAESENC k, Z3, Z3

// MULTIPLY adds the products of z and Z12 to the sum. It overwrites z.
#define MULTIPLY(z) \
	VPCLMULQDQ $0x00, Z12, z, Z11;   \
	VPXORQ     Z11, Z8, Z8;          \
	VPCLMULQDQ $0x11, Z12, z, Z11;   \
	VPXORQ     Z11, Z10, Z10;        \
	VPCLMULQDQ $0x01, Z12, z, Z11;   \
	VPCLMULQDQ $0x10, Z12, z, z;     \
	VPTERNLOGQ $0x96, z, Z11, Z9

// REDUCE1 and REDUCE2 make of the sum a hash, in Z10. Each makes the lowest word zero.
#define REDUCE1 \
	VPCLMULQDQ $0x00, Z31, Z8, Z11; \
	VPSHUFD    $0x4e, Z8, Z8;       \
	VPTERNLOGQ $0x96, Z11, Z8, Z9

#define REDUCE2 \
	VPCLMULQDQ $0x00, Z31, Z9, Z11; \
	VPSHUFD    $0x4e, Z9, Z9;       \
	VPTERNLOGQ $0x96, Z11, Z9, Z10

// STITCHED is all rounds of AES but the last for four registers, and the hash of Z4 to Z7.
#define STITCHED \
	ROUND(Z17);                          \
	VPXORQ          Z10, Z4, Z4;         \
	VBROADCASTI32X4 (4*16)(BX), Z12;     \
	VPCLMULQDQ      $0x00, Z12, Z4, Z8;  \
	VPCLMULQDQ      $0x11, Z12, Z4, Z10; \
	ROUND(Z18);                          \
	VPCLMULQDQ      $0x01, Z12, Z4, Z9;  \
	VPCLMULQDQ      $0x10, Z12, Z4, Z11; \
	VPXORQ          Z11, Z9, Z9;         \
	ROUND(Z19);                          \
	VBROADCASTI32X4 (8*16)(BX), Z12;     \
	VPCLMULQDQ      $0x00, Z12, Z5, Z11; \
	VPXORQ          Z11, Z8, Z8;         \
	ROUND(Z20);                          \
	VPCLMULQDQ      $0x11, Z12, Z5, Z11; \
	VPXORQ          Z11, Z10, Z10;       \
	VPCLMULQDQ      $0x01, Z12, Z5, Z11; \
	VPCLMULQDQ      $0x10, Z12, Z5, Z5;  \
	VPTERNLOGQ      $0x96, Z5, Z11, Z9;  \
	ROUND(Z21);                          \
	VBROADCASTI32X4 (12*16)(BX), Z12;    \
	VPCLMULQDQ      $0x00, Z12, Z6, Z11; \
	VPXORQ          Z11, Z8, Z8;         \
	ROUND(Z22);                          \
	VPCLMULQDQ      $0x11, Z12, Z6, Z11; \
	VPXORQ          Z11, Z10, Z10;       \
	VPCLMULQDQ      $0x01, Z12, Z6, Z11; \
	VPCLMULQDQ      $0x10, Z12, Z6, Z6;  \
	VPTERNLOGQ      $0x96, Z6, Z11, Z9;  \
	ROUND(Z23);                          \
	VBROADCASTI32X4 (16*16)(BX), Z12;    \
	VPCLMULQDQ      $0x00, Z12, Z7, Z11; \
	VPXORQ          Z11, Z8, Z8;         \
	ROUND(Z24);                          \
	VPCLMULQDQ      $0x11, Z12, Z7, Z11; \
	VPXORQ          Z11, Z10, Z10;       \
	VPCLMULQDQ      $0x01, Z12, Z7, Z11; \
	VPCLMULQDQ      $0x10, Z12, Z7, Z7;  \
	VPTERNLOGQ      $0x96, Z7, Z11, Z9;  \
	ROUND(Z25);                          \
	REDUCE1;                             \
	ROUND(Z26);                          \
	ROUND(Z27);                          \
	REDUCE2;                             \
	ROUND(Z28);                          \
	ROUND(Z29)

// FINISH is the last round of z, and the message that it encrypts; h becomes what is hashed.
// FINISHLAST is the same for the last vector of a step: the mask keeps bytes past the end of the
// message from being read, written or hashed.
#define FINISH(offset, z, h) \
	VPXORQ      offset(SI), Z30, h; \
	VAESENCLAST h, z, z;            \
	VMOVDQU64   z, offset(DI);      \
	VPSHUFB     Z13, z, h

#define FINISHLAST(offset, z, h) \
	VMOVDQU8.Z  offset(SI), K1, h; \
	VPXORQ      h, Z30, h;         \
	VAESENCLAST h, z, z;           \
	VMOVDQU8    z, K1, offset(DI); \
	VMOVDQU8.Z  z, K1, z;          \
	VPSHUFB     Z13, z, h

// func gcmSeal(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)
TEXT ·gcmSeal(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ key+24(FP), BX
	MOVQ nonce+32(FP), R9
	MOVQ tag+40(FP), DX

#include "gcm_amd64.h"

#undef FINISH
#undef FINISHLAST

#define FINISH(offset, z, h) \
	VMOVDQU64   offset(SI), h;  \
	VPXORQ      h, Z30, Z11;    \
	VAESENCLAST Z11, z, z;      \
	VMOVDQU64   z, offset(DI);  \
	VPSHUFB     Z13, h, h

#define FINISHLAST(offset, z, h) \
	VMOVDQU8.Z  offset(SI), K1, h; \
	VPXORQ      h, Z30, Z11;       \
	VAESENCLAST Z11, z, z;         \
	VMOVDQU8    z, K1, offset(DI); \
	VPSHUFB     Z13, h, h

// func gcmOpen(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)
TEXT ·gcmOpen(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ key+24(FP), BX
	MOVQ nonce+32(FP), R9
	MOVQ tag+40(FP), DX

#include "gcm_amd64.h"

// EVEN and ODD make the next round key of X0 and X1, which are the two before it, and use it. X2
// and X3 are temporary.
#define SPREAD(x) \
	VPSLLDQ $4, x, X3;  \
	VPXOR   X3, x, x;   \
	VPSLLDQ $4, X3, X3; \
	VPXOR   X3, x, x;   \
	VPSLLDQ $4, X3, X3; \
	VPXOR   X3, x, x;   \
	VPXOR   X2, x, x

#define EVEN(n, rcon) \
	VAESKEYGENASSIST $rcon, X1, X2;            \
	VPSHUFD          $0xff, X2, X2;            \
	SPREAD(X0);                                \
	VMOVDQU          X0, (20*16+n*16)(DI);     \
	VAESENC          X0, X4, X4

#define ODD(n) \
	VAESKEYGENASSIST $0, X0, X2;               \
	VPSHUFD          $0xaa, X2, X2;            \
	SPREAD(X1);                                \
	VMOVDQU          X1, (20*16+n*16)(DI);     \
	VAESENC          X1, X4, X4

// func vectorAES() bool
TEXT ·vectorAES(SB), NOSPLIT, $0-1
	MOVL  $7, AX
	XORL  CX, CX
	CPUID
	ANDL  $0x600, CX // VAES and VPCLMULQDQ
	CMPL  CX, $0x600
	SETEQ ret+0(FP)
	RET

// func gcmExpand(key *[32]byte, to *gcmKey)
//
// It needs AES, PCLMULQDQ and AVX only, and serves gcm256_amd64.s as well.
TEXT ·gcmExpand(SB), NOSPLIT, $0-16
	MOVQ key+0(FP), SI
	MOVQ to+8(FP), DI

	// X4: the block of zeros is encrypted as the keys come up.
	VMOVDQU (SI), X0
	VMOVDQU 16(SI), X1
	VMOVDQU X0, (20*16)(DI)
	VMOVDQU X1, (21*16)(DI)
	VAESENC X1, X0, X4
	EVEN(2, 0x01)
	ODD(3)
	EVEN(4, 0x02)
	ODD(5)
	EVEN(6, 0x04)
	ODD(7)
	EVEN(8, 0x08)
	ODD(9)
	EVEN(10, 0x10)
	ODD(11)
	EVEN(12, 0x20)
	ODD(13)
	VAESKEYGENASSIST $0x40, X1, X2
	VPSHUFD     $0xff, X2, X2
	SPREAD(X0)
	VMOVDQU     X0, (34*16)(DI)
	VAESENCLAST X0, X4, X4

	// H, with its bytes reversed, times x.
	VPSHUFB reverse<>(SB), X4, X4
	VPSHUFD $0xff, X4, X5
	VPSRAD  $31, X5, X5
	VPAND   field<>(SB), X5, X5
	VPSRLQ  $63, X4, X6
	VPSLLDQ $8, X6, X6
	VPADDQ  X4, X4, X4
	VPOR    X6, X4, X4
	VPXOR   X5, X4, X4

	// Its powers, each the product of the one before it and H.
	VMOVDQU poly<>(SB), X5
	VMOVDQU X4, (19*16)(DI)
	VMOVDQA X4, X0
	MOVL    $(18*16), CX

power:
	VPCLMULQDQ $0x00, X4, X0, X1
	VPCLMULQDQ $0x01, X4, X0, X2
	VPCLMULQDQ $0x10, X4, X0, X3
	VPCLMULQDQ $0x11, X4, X0, X0
	VPXOR      X3, X2, X2
	VPCLMULQDQ $0x00, X5, X1, X3
	VPSHUFD    $0x4e, X1, X1
	VPXOR      X3, X2, X2
	VPXOR      X1, X2, X2
	VPCLMULQDQ $0x00, X5, X2, X3
	VPSHUFD    $0x4e, X2, X2
	VPXOR      X3, X0, X0
	VPXOR      X2, X0, X0
	VMOVDQU    X0, (DI)(CX*1)
	SUBQ       $16, CX
	JGE        power
	VZEROALL
	RET
