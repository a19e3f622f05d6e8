// SPDX-License-Identifier: Apache-2.0
#include "octet/core/tensor.h"

#include <gtest/gtest.h>

#include <array>

namespace octet {
namespace {

TEST(TensorView, GivesItsRows) {
  std::array<float, 12> data = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const TensorView view = view_of(data.data(), {2, 2, 3});
  EXPECT_EQ(view.rows(), 4);
  EXPECT_EQ(view.cols(), 3);
  EXPECT_EQ(view.row<float>(2)[1], 7.0F);
  view.row<float>(3)[2] = 99.0F;
  EXPECT_EQ(data[11], 99.0F);
}

TEST(TensorView, SlicesRowsAndKeepsTheStride) {
  std::array<float, 12> data = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const TensorView narrow(reinterpret_cast<std::byte*>(data.data()), DType::kF32, {3, 2}, 4);
  const TensorView slice = narrow.slice_rows(1, 3);
  EXPECT_EQ(slice.shape(), Shape({2, 2}));
  EXPECT_EQ(slice.row<float>(0)[0], 4.0F);
  EXPECT_EQ(slice.row<float>(1)[1], 9.0F);
  EXPECT_TRUE(narrow.slice_rows(1, 1).empty());
}

TEST(TensorView, ReshapesOnlyWhatIsContiguous) {
  std::array<float, 12> data = {};
  const ConstTensorView view = view_of(data.data(), {3, 4});
  EXPECT_EQ(view.reshape({2, 6}).cols(), 6);
  EXPECT_THROW((void)view.reshape({2, 5}), ArgumentError);
  const ConstTensorView strided(view.data(), DType::kF32, {3, 2}, 4);
  EXPECT_THROW((void)strided.reshape({6}), ArgumentError);
}

TEST(TensorView, OfNothingIsEmpty) {
  EXPECT_TRUE(TensorView().empty());
  EXPECT_TRUE(ConstTensorView().empty());
  float value = 0;
  EXPECT_TRUE(view_of(&value, {0, 3}).empty());
  EXPECT_EQ(view_of(&value, {3, 0}).rows(), 0);
  EXPECT_FALSE(view_of(&value, {}).empty());
}

TEST(Tensor, OwnsZeroedMemoryThatItsViewsShare) {
  HostAllocator allocator;
  MemoryLedger ledger;
  Tensor tensor(Buffer(allocator, ledger, "weights", 24), DType::kF32, {2, 3});
  tensor.view().row<float>(1)[2] = 5.0F;
  const Tensor moved = std::move(tensor);
  EXPECT_EQ(moved.view().row<float>(1)[2], 5.0F);
  EXPECT_EQ(moved.view().row<float>(0)[0], 0.0F);
  EXPECT_EQ(moved.bytes(), 24);
  EXPECT_EQ(ledger.current("weights"), 24);
  EXPECT_TRUE(Tensor().empty());
}

}  // namespace
}  // namespace octet
