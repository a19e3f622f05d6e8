// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/module.h"

#include "tests/layers/fp8_linear_rig.h"

namespace octet {
namespace {

using testing::HasSubstr;

using ModuleTest = Fp8LinearRig;

TEST_F(ModuleTest, NamedChildrenCanBeReplacedByWhatTheirParentTakes) {
  Block block(linear(), linear());
  const auto other = linear();
  block.replace_child("down", other);
  EXPECT_EQ(block.child("down"), other);
  EXPECT_THAT(error_of([&] { block.replace_child("middle", other); }),
              HasSubstr("the children are up, down"));
  EXPECT_THAT(error_of([&] { block.replace_child("up", nullptr); }), HasSubstr("null"));
  EXPECT_THAT(error_of([&] { block.replace_child("up", std::make_shared<Module>()); }),
              HasSubstr("must be a linear"));
  EXPECT_THAT(error_of([&] { block.add_child("up", other); }), HasSubstr("already"));
  EXPECT_THAT(error_of([&] { block.add_child("a.b", other); }), HasSubstr("without dots"));
}

TEST_F(ModuleTest, ACopiedTreeSharesWhatTheOriginalShares) {
  const auto root = std::make_shared<Module>();
  const auto shared = linear();
  const auto block = std::make_shared<Block>(shared, linear());
  root->add_child("a", block);
  root->add_child("b", std::make_shared<Block>(linear(), shared));
  root->add_child("again", block);
  const ModuleCopies copies = copy_tree(root);
  const auto& copy = copies.at(root.get());
  EXPECT_EQ(copies.size(), 6U);
  EXPECT_EQ(copy->child("a"), copy->child("again"));
  EXPECT_EQ(copy->child("a")->child("up"), copy->child("b")->child("down"));
  EXPECT_NE(copy->child("a")->child("up"), shared);
  EXPECT_NE(std::dynamic_pointer_cast<Block>(copy->child("a")), nullptr);
  copy->child("a")->replace_child("up", linear());
  EXPECT_EQ(block->child("up"), shared);
}

TEST_F(ModuleTest, AModuleThatDoesNotSayHowIsNotCopied) {
  class Mute : public Module {};
  const auto root = std::make_shared<Module>();
  root->add_child("mute", std::make_shared<Mute>());
  EXPECT_THAT(error_of([&] { (void)copy_tree(root); }), HasSubstr("does not override copy()"));
  EXPECT_THAT(error_of([&] { (void)copy_tree(nullptr); }), HasSubstr("found none"));
}

}  // namespace
}  // namespace octet
